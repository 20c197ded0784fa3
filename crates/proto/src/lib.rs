//! Warren's protocol packages as Rust code, and their conversions to and from `warren-types`.
//! Not here: sockets, tasks, storage, and any decision about a message.

pub mod codec;
pub mod convert;
mod generated;

pub use generated::FILE_DESCRIPTOR_SET;
pub use generated::packages::google::rpc as google_rpc;
pub use generated::packages::warren::admin::v1 as admin_v1;
pub use generated::packages::warren::cluster::v1 as cluster_v1;
pub use generated::packages::warren::internal::v1 as internal_v1;
pub use generated::packages::warren::stored::v1 as stored_v1;
pub use generated::packages::warren::v1;

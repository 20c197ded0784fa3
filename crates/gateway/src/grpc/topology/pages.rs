//! Pages of a listing: a page ends with the name it ends at, which is the next page's token. Not here: what is listed.

use warren_proto::convert::error::ApiError;

use crate::grpc::error::bad_argument;

const PAGE_DEFAULT: u32 = 100;
const PAGE_MAX: u32 = 1_000;

/// Which page.
pub(in crate::grpc) struct Page {
    size: usize,
    after: Option<String>,
}

impl Page {
    /// Tokens are names in hexadecimal, so that nobody builds on them.
    ///
    /// # Errors
    /// The token is none of ours.
    pub(in crate::grpc) fn new(size: u32, token: &str) -> Result<Self, ApiError> {
        let size = if size == 0 {
            PAGE_DEFAULT
        } else {
            size.min(PAGE_MAX)
        };
        let after = if token.is_empty() {
            None
        } else {
            Some(
                decode(token)
                    .ok_or_else(|| bad_argument("page_token", "is not one of this server"))?,
            )
        };
        Ok(Self {
            size: usize::try_from(size).unwrap_or(usize::MAX),
            after,
        })
    }

    pub(in crate::grpc) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// Takes the page's entries of those that come after its token, and the next page's token.
    pub(in crate::grpc) fn take<T>(
        &self,
        mut entries: impl Iterator<Item = T>,
        name: impl Fn(&T) -> String,
    ) -> (Vec<T>, String) {
        let page: Vec<T> = entries.by_ref().take(self.size).collect();
        let has_more = entries.next().is_some();
        let token = page
            .last()
            .filter(|_| has_more)
            .map(|last| encode(&name(last)))
            .unwrap_or_default();
        (page, token)
    }
}

fn encode(name: &str) -> String {
    // A digit in front, so that the empty name has a token too.
    std::iter::once("1".to_owned())
        .chain(name.bytes().map(|byte| format!("{byte:02x}")))
        .collect()
}

fn decode(token: &str) -> Option<String> {
    let digits = token.strip_prefix('1')?.as_bytes();
    if digits.len() % 2 != 0 {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    String::from_utf8(bytes?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let names = ["", "a", "b", "ü"];
        let mut found: Vec<&&str> = Vec::new();
        let mut token = String::new();
        loop {
            let page = Page::new(2, &token).unwrap();
            let rest = names
                .iter()
                .filter(|name| page.after().is_none_or(|after| **name > after));
            let (entries, next) = page.take(rest, |name| (**name).to_owned());
            found.extend(entries);
            if next.is_empty() {
                break;
            }
            token = next;
        }
        assert_eq!(found, vec![&"", &"a", &"b", &"ü"]);
    }

    #[test]
    fn token_of_somebody_else_is_refused() {
        for token in ["x", "1f", "1zz", "2aa", "1ff", "é"] {
            if token == "1f" {
                assert!(Page::new(0, token).is_err());
                continue;
            }
            assert!(Page::new(0, token).is_err(), "{token}");
        }
    }
}

//! The page `/metrics`: every family with its name, meaning and source. Labels come from small sets: shards and protocols, never
//! names of objects, so that the page costs the same whatever clients declare. Not here: the format (`page`).

mod broker;
mod process;

use crate::overview::Overview;
use crate::page::MetricsPage;

pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) async fn render(overview: &Overview) -> String {
    let mut page = MetricsPage::default();
    process::put(&mut page, overview);
    let Some(gateway) = overview.gateway() else {
        return page.into_text();
    };
    let totals = overview.totals().get(gateway).await;
    broker::groups(&mut page, gateway);
    broker::queues(&mut page, gateway, totals);
    broker::clients(&mut page, gateway.counters());
    page.into_text()
}

/// For a figure of 0 or 1.
fn flag(on: bool) -> u8 {
    u8::from(on)
}

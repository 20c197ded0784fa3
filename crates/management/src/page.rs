//! Prometheus' text format, version 0.0.4. Not here: what is shown (`metrics`).

use std::fmt::{Display, Write as _};

/// A page that is being written.
#[derive(Debug, Default)]
pub(crate) struct MetricsPage(String);

/// What a family counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FamilyKind {
    Counter,
    Gauge,
}

/// One family: its samples follow its head.
pub(crate) struct Family<'a> {
    page: &'a mut String,
    name: &'static str,
}

impl MetricsPage {
    pub(crate) fn family(
        &mut self,
        name: &'static str,
        kind: FamilyKind,
        help: &'static str,
    ) -> Family<'_> {
        let kind = match kind {
            FamilyKind::Counter => "counter",
            FamilyKind::Gauge => "gauge",
        };
        put(
            &mut self.0,
            format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"),
        );
        Family {
            page: &mut self.0,
            name,
        }
    }

    pub(crate) fn gauge(&mut self, name: &'static str, help: &'static str, value: impl Display) {
        self.family(name, FamilyKind::Gauge, help).value(value);
    }

    pub(crate) fn counter(&mut self, name: &'static str, help: &'static str, value: impl Display) {
        self.family(name, FamilyKind::Counter, help).value(value);
    }

    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

impl Family<'_> {
    pub(crate) fn value(&mut self, value: impl Display) {
        put(self.page, format_args!("{} {value}\n", self.name));
    }

    pub(crate) fn labelled(&mut self, labels: &[(&str, &dyn Display)], value: impl Display) {
        self.page.push_str(self.name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            let text = escaped(&text.to_string());
            put(self.page, format_args!("{before}{label}=\"{text}\""));
        }
        put(self.page, format_args!("}} {value}\n"));
    }
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("a string takes everything");
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_reads_as_prometheus_wants_it() {
        let mut page = MetricsPage::default();
        page.gauge("a_bytes", "Bytes.", 5);
        let mut family = page.family("b_total", FamilyKind::Counter, "Things.");
        family.labelled(&[("x", &"say \"a\\b\"\n"), ("y", &2)], 0.5);
        family.labelled(&[("x", &"z")], 1);
        let expected = "# HELP a_bytes Bytes.\n# TYPE a_bytes gauge\na_bytes 5\n\
            # HELP b_total Things.\n# TYPE b_total counter\n\
            b_total{x=\"say \\\"a\\\\b\\\"\\n\",y=\"2\"} 0.5\nb_total{x=\"z\"} 1\n";
        assert_eq!(page.into_text(), expected);
    }
}

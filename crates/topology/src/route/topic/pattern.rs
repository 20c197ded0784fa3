//! A binding key as a pattern. Not here: matching it (`trie`).

/// One word of a pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part<'p> {
    Word(&'p str),
    /// `*`: exactly one word.
    One,
    /// `#`: zero or more words.
    Any,
}

/// The parts of a pattern in one form for all that mean the same: in a run of wildcards the `*` come first and one `#` is kept.
pub(super) fn parts(pattern: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    if pattern.is_empty() {
        return parts;
    }
    let mut any = false;
    for word in pattern.split('.') {
        match word {
            "#" => any = true,
            "*" => parts.push(Part::One),
            word => {
                if std::mem::take(&mut any) {
                    parts.push(Part::Any);
                }
                parts.push(Part::Word(word));
            }
        }
    }
    if any {
        parts.push(Part::Any);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_wildcards_take_one_form() {
        assert_eq!(parts(""), []);
        assert_eq!(parts("#.#.#"), [Part::Any]);
        assert_eq!(parts("#.*.#"), parts("*.#"));
        assert_eq!(
            parts("a.#.*.b.*"),
            [
                Part::Word("a"),
                Part::One,
                Part::Any,
                Part::Word("b"),
                Part::One
            ]
        );
        assert_eq!(parts("a#"), [Part::Word("a#")]);
        assert_eq!(parts("."), [Part::Word(""), Part::Word("")]);
    }
}

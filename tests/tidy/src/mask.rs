//! Blanks comments and literals of Rust source, so that rules about code do not trip over prose. Not here: parsing.

/// The same text with every comment, string and character literal replaced by spaces. Line breaks stay, so line
/// numbers hold.
pub fn code_only(source: &str) -> String {
    let mut masker = Masker {
        rest: source.chars().collect(),
        at: 0,
        out: String::with_capacity(source.len()),
    };
    while masker.at < masker.rest.len() {
        masker.step();
    }
    masker.out
}

struct Masker {
    rest: Vec<char>,
    at: usize,
    out: String,
}

impl Masker {
    fn peek(&self, ahead: usize) -> char {
        self.rest.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn keep(&mut self) {
        self.out.push(self.peek(0));
        self.at += 1;
    }

    fn blank(&mut self) {
        let blank = if self.peek(0) == '\n' { '\n' } else { ' ' };
        self.out.push(blank);
        self.at += 1;
    }

    fn step(&mut self) {
        let after_word = self.out.chars().next_back().is_some_and(is_word);
        match (self.peek(0), self.peek(1)) {
            ('/', '/') => self.line_comment(),
            ('/', '*') => self.block_comment(),
            ('"', _) => self.string(),
            ('\'', _) => self.quote(),
            ('r', '"' | '#') if !after_word => self.raw_string(1),
            ('b' | 'c', 'r') if !after_word && matches!(self.peek(2), '"' | '#') => {
                self.raw_string(2);
            }
            _ => self.keep(),
        }
    }

    fn line_comment(&mut self) {
        while self.at < self.rest.len() && self.peek(0) != '\n' {
            self.blank();
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        while self.at < self.rest.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => {
                    depth += 1;
                    self.blank();
                    self.blank();
                }
                ('*', '/') => {
                    depth -= 1;
                    self.blank();
                    self.blank();
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.blank(),
            }
        }
    }

    fn string(&mut self) {
        self.blank();
        while self.at < self.rest.len() {
            match self.peek(0) {
                '\\' => {
                    self.blank();
                    self.blank();
                }
                '"' => {
                    self.blank();
                    return;
                }
                _ => self.blank(),
            }
        }
    }

    /// A character literal or a lifetime: `'a'` and `'\n'` are the one, `'a` the other.
    fn quote(&mut self) {
        if self.peek(1) == '\\' {
            self.blank();
            self.blank();
            self.blank();
            while self.at < self.rest.len() && self.peek(0) != '\'' {
                self.blank();
            }
            self.blank();
        } else if self.peek(2) == '\'' {
            self.blank();
            self.blank();
            self.blank();
        } else {
            self.keep();
        }
    }

    /// `r"…"`, `r#"…"#` and their byte and C forms; `r#name` is an identifier and stays.
    fn raw_string(&mut self, prefix: usize) {
        let mut hashes = 0;
        while self.peek(prefix + hashes) == '#' {
            hashes += 1;
        }
        if self.peek(prefix + hashes) != '"' {
            self.keep();
            return;
        }
        for _ in 0..=prefix + hashes {
            self.blank();
        }
        while self.at < self.rest.len() {
            let closes = self.peek(0) == '"' && (1..=hashes).all(|ahead| self.peek(ahead) == '#');
            self.blank();
            if closes {
                for _ in 0..hashes {
                    self.blank();
                }
                return;
            }
        }
    }
}

pub(crate) fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

#[cfg(test)]
mod tests {
    use super::code_only;

    #[test]
    fn comments_are_blanked_lines_stay() {
        let masked = code_only("a // x\n/* y /* z */ w */ b\n");
        assert_eq!(masked, "a     \n                  b\n");
    }

    #[test]
    fn strings_with_escapes_are_blanked() {
        let masked = code_only(r#"f("a\"b{", 'x', '\'', '\u{7f}') {"#);
        assert_eq!(masked.trim_end_matches('{').matches('{').count(), 0);
        assert!(masked.ends_with('{'));
        assert!(!masked.contains('a'));
    }

    #[test]
    fn raw_strings_are_blanked_raw_names_stay() {
        let masked = code_only("let r#fn = r##\"{ \"# fn \"##; let s = br\"}\"; var");
        assert!(masked.contains("r#fn"));
        assert!(!masked.contains('{') && !masked.contains('}'));
        assert!(masked.ends_with("; var"));
    }

    #[test]
    fn lifetimes_are_kept() {
        let source = "fn f<'a>(x: &'a str) -> &'a str { x }";
        assert_eq!(code_only(source), source);
    }
}

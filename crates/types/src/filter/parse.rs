//! Reads a filter's text. Not here: what it means (`filter`), times (`time`).
//!
//! ```text
//! filter = term *( "and" term )
//! term   = [ "!" ] field | field operator value
//! field  = name [ "." key ]            ; a header: headers.tenant, headers."two words"
//! value  = word | quoted               ; quotes around what holds spaces, operators or quotes; \" and \\ inside
//! ```

use std::iter::Peekable;
use std::str::{Chars, FromStr};

use thiserror::Error;

use super::{Field, Filter, Literal, Operator, Term, Test, TextProperty, time};

/// Longest text of a filter.
pub const FILTER_BYTES_MAX: usize = 1_024;
/// Comparisons of one filter, at most.
pub const FILTER_TERMS_MAX: usize = 16;

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FilterError {
    #[error("a filter has at most {FILTER_BYTES_MAX} bytes, this one has {bytes}")]
    TooLong { bytes: usize },
    #[error("a filter has at most {FILTER_TERMS_MAX} comparisons")]
    TooManyTerms,
    #[error("a field is expected, not {found:?}")]
    NoField { found: String },
    #[error("there is no field {name:?}")]
    UnknownField { name: String },
    #[error("a value is expected after {after:?}")]
    NoValue { after: String },
    #[error("\"and\" or the end is expected, not {found:?}")]
    NoAnd { found: String },
    #[error("a quoted text does not end")]
    OpenQuote,
    #[error("field {field:?} is compared with {expected}, not with {value:?}")]
    WrongValue {
        field: String,
        expected: &'static str,
        value: String,
    },
    #[error("field {field:?} is no text: it cannot start with one")]
    NoText { field: String },
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.len() > FILTER_BYTES_MAX {
            return Err(FilterError::TooLong { bytes: text.len() });
        }
        let mut tokens = Tokens::new(text);
        let mut terms = Vec::new();
        loop {
            if terms.len() == FILTER_TERMS_MAX {
                return Err(FilterError::TooManyTerms);
            }
            terms.push(tokens.term()?);
            match tokens.next()? {
                None => break,
                Some(Token::Word(word)) if word.eq_ignore_ascii_case("and") => {}
                Some(other) => {
                    return Err(FilterError::NoAnd {
                        found: other.shown(),
                    });
                }
            }
        }
        Ok(Self {
            text: Box::from(text),
            terms,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Operator(Operator),
    Not,
}

impl Token {
    fn shown(self) -> String {
        match self {
            Self::Word(text) | Self::Quoted(text) => text,
            Self::Operator(operator) => sign(operator).to_owned(),
            Self::Not => "!".to_owned(),
        }
    }
}

struct Tokens<'a> {
    rest: Peekable<Chars<'a>>,
    /// Read, and given back.
    returned: Option<Token>,
}

impl<'a> Tokens<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            rest: text.chars().peekable(),
            returned: None,
        }
    }

    fn term(&mut self) -> Result<Term, FilterError> {
        let (absent, name) = match self.next()? {
            Some(Token::Not) => (true, self.next()?),
            other => (false, other),
        };
        let field = self.field(name)?;
        if absent {
            let test = Test::Absent;
            return Ok(Term { field, test });
        }
        let operator = match self.next()? {
            Some(Token::Operator(operator)) => operator,
            other => {
                self.returned = other;
                let test = Test::Present;
                return Ok(Term { field, test });
            }
        };
        let value = match self.next()? {
            Some(Token::Word(value) | Token::Quoted(value)) => value,
            Some(Token::Operator(_) | Token::Not) | None => {
                return Err(FilterError::NoValue {
                    after: sign(operator).to_owned(),
                });
            }
        };
        let test = Test::Compare(operator, literal(&field, operator, &value)?);
        Ok(Term { field, test })
    }

    fn field(&mut self, name: Option<Token>) -> Result<Field, FilterError> {
        let name = match name {
            Some(Token::Word(name)) => name,
            other => {
                let found = other.map_or_else(String::new, Token::shown);
                return Err(FilterError::NoField { found });
            }
        };
        match name.strip_prefix("headers.") {
            Some("") => match self.next()? {
                Some(Token::Quoted(key)) => Ok(Field::Header(key.into())),
                other => {
                    let found = other.map_or_else(String::new, Token::shown);
                    Err(FilterError::NoField { found })
                }
            },
            Some(key) => Ok(Field::Header(key.into())),
            None => named(&name).ok_or(FilterError::UnknownField { name }),
        }
    }

    fn next(&mut self) -> Result<Option<Token>, FilterError> {
        if let Some(token) = self.returned.take() {
            return Ok(Some(token));
        }
        while self.rest.next_if(|it| it.is_whitespace()).is_some() {}
        let Some(first) = self.rest.next() else {
            return Ok(None);
        };
        let or_equal = |rest: &mut Peekable<Chars<'a>>| rest.next_if_eq(&'=').is_some();
        let token = match first {
            '"' => Token::Quoted(self.quoted()?),
            '=' => Token::Operator(Operator::Equal),
            '!' if or_equal(&mut self.rest) => Token::Operator(Operator::NotEqual),
            '!' => Token::Not,
            '<' if or_equal(&mut self.rest) => Token::Operator(Operator::LessOrEqual),
            '<' => Token::Operator(Operator::Less),
            '>' if or_equal(&mut self.rest) => Token::Operator(Operator::GreaterOrEqual),
            '>' => Token::Operator(Operator::Greater),
            '^' if or_equal(&mut self.rest) => Token::Operator(Operator::StartsWith),
            first => {
                let mut word = String::from(first);
                let inside = |it: &char| !it.is_whitespace() && !"=!<>^\"".contains(*it);
                while let Some(next) = self.rest.next_if(inside) {
                    word.push(next);
                }
                Token::Word(word)
            }
        };
        Ok(Some(token))
    }

    fn quoted(&mut self) -> Result<String, FilterError> {
        let mut text = String::new();
        loop {
            match self.rest.next().ok_or(FilterError::OpenQuote)? {
                '"' => return Ok(text),
                '\\' => text.push(self.rest.next().ok_or(FilterError::OpenQuote)?),
                other => text.push(other),
            }
        }
    }
}

fn named(name: &str) -> Option<Field> {
    Some(match name {
        "position" => Field::Position,
        "priority" => Field::Priority,
        "delivery_count" => Field::DeliveryCount,
        "body_bytes" => Field::BodyBytes,
        // A dead letter died when it came into the queue that holds it.
        "enqueued_at" | "died_at" => Field::EnqueuedAt,
        "exchange" => Field::Exchange,
        "routing_key" => Field::RoutingKey,
        "source_queue" => Field::SourceQueue,
        "cause" => Field::Cause,
        "timestamp" => Field::Timestamp,
        "message_id" => Field::Text(TextProperty::MessageId),
        "correlation_id" => Field::Text(TextProperty::CorrelationId),
        "type" => Field::Text(TextProperty::Type),
        "user_id" => Field::Text(TextProperty::UserId),
        "app_id" => Field::Text(TextProperty::AppId),
        "reply_to" => Field::Text(TextProperty::ReplyTo),
        "content_type" => Field::Text(TextProperty::ContentType),
        "content_encoding" => Field::Text(TextProperty::ContentEncoding),
        _ => return None,
    })
}

fn literal(field: &Field, operator: Operator, value: &str) -> Result<Literal, FilterError> {
    let literal = Literal {
        text: Box::from(value),
        number: value.parse().ok(),
        time_ms: time::parse(value),
    };
    let (name, expected, fits) = match field {
        Field::Position => ("position", "a number", literal.number.is_some()),
        Field::Priority => ("priority", "a number", literal.number.is_some()),
        Field::DeliveryCount => ("delivery_count", "a number", literal.number.is_some()),
        Field::BodyBytes => ("body_bytes", "a number", literal.number.is_some()),
        Field::EnqueuedAt => ("enqueued_at", "a time", literal.time_ms.is_some()),
        Field::Timestamp => ("timestamp", "a time", literal.time_ms.is_some()),
        Field::Exchange
        | Field::RoutingKey
        | Field::SourceQueue
        | Field::Cause
        | Field::Text(_)
        | Field::Header(_) => return Ok(literal),
    };
    let field = name.to_owned();
    if operator == Operator::StartsWith {
        return Err(FilterError::NoText { field });
    }
    if !fits {
        let value = value.to_owned();
        return Err(FilterError::WrongValue {
            field,
            expected,
            value,
        });
    }
    Ok(literal)
}

fn sign(operator: Operator) -> &'static str {
    match operator {
        Operator::Equal => "=",
        Operator::NotEqual => "!=",
        Operator::Less => "<",
        Operator::LessOrEqual => "<=",
        Operator::Greater => ">",
        Operator::GreaterOrEqual => ">=",
        Operator::StartsWith => "^=",
    }
}

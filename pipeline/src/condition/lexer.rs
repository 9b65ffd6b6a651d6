//! From the text of a condition to its words.

use super::{Fault, Operator};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A name, dots included: `resource.attributes`.
    Word(String),
    Text(String),
    Int(i64),
    Double(f64),
    Operator(Operator),
    /// `(`, `)`, `[`, `]`, `,`
    Sign(char),
}

/// A token and where it begins, in bytes.
pub(super) type Placed = (usize, Token);

fn fault(offset: usize, message: impl Into<String>) -> Fault {
    Fault { offset, message: message.into(), hint: None }
}

/// All words of a condition.
pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, Fault> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let rest = &text[at..];
        let (token, len) = match c {
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '(' | ')' | '[' | ']' | ',' => (Token::Sign(c), 1),
            '"' => string(rest).map_err(|(offset, message)| fault(at + offset, message))?,
            '=' | '!' | '<' | '>' => operator(rest).ok_or_else(|| {
                let hint = "comparisons are ==, !=, <, <=, > and >=".to_owned();
                Fault { offset: at, message: format!("`{c}` is no comparison"), hint: Some(hint) }
            })?,
            c if c.is_ascii_alphabetic() || c == '_' => {
                let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '.'));
                let word = &rest[..len.unwrap_or(rest.len())];
                (Token::Word(word.to_owned()), word.len())
            }
            c if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => {
                number(rest).ok_or_else(|| fault(at, "this is neither an integer nor a float"))?
            }
            c => return Err(fault(at, format!("`{c}` means nothing here"))),
        };
        tokens.push((at, token));
        at += len;
    }
    Ok(tokens)
}

fn operator(rest: &str) -> Option<(Token, usize)> {
    let (operator, len) = match rest.as_bytes() {
        [b'=', b'=', ..] => (Operator::Equal, 2),
        [b'!', b'=', ..] => (Operator::NotEqual, 2),
        [b'<', b'=', ..] => (Operator::LessOrEqual, 2),
        [b'>', b'=', ..] => (Operator::GreaterOrEqual, 2),
        [b'<', ..] => (Operator::Less, 1),
        [b'>', ..] => (Operator::Greater, 1),
        _ => return None,
    };
    Some((Token::Operator(operator), len))
}

fn number(rest: &str) -> Option<(Token, usize)> {
    let mut previous = ' ';
    let end = rest.find(|c: char| {
        let part =
            c.is_ascii_alphanumeric() || c == '.' || matches!(c, '-' | '+') && matches!(previous, ' ' | 'e' | 'E');
        previous = c;
        !part
    });
    let text = &rest[..end.unwrap_or(rest.len())];
    let token = match text.parse() {
        Ok(int) => Token::Int(int),
        // Rust also reads `inf` and `nan`, which begin with a letter and do not come here.
        Err(_) if text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) => {
            Token::Double(text.parse().ok().filter(|d: &f64| d.is_finite())?)
        }
        Err(_) => return None,
    };
    Some((token, text.len()))
}

/// A text in double quotes, with Go's escapes for what needs one.
fn string(rest: &str) -> Result<(Token, usize), (usize, String)> {
    let mut out = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Text(out), at + 1)),
            '\\' => match chars.next() {
                Some((_, c @ ('"' | '\\' | '\''))) => out.push(c),
                Some((_, 'n')) => out.push('\n'),
                Some((_, 't')) => out.push('\t'),
                Some((_, 'r')) => out.push('\r'),
                _ => return Err((at, "in a text, `\\` stands before \", \\, ', n, t or r".to_owned())),
            },
            c => out.push(c),
        }
    }
    Err((0, "the text does not end: a `\"` is missing".to_owned()))
}

//! Patterns in RE2's syntax, as Go's `regexp` reads it, written in the syntax of the `regex` crate.
//!
//! | pattern | RE2 | `regex` | written as |
//! |---|---|---|---|
//! | `\<` `\>` | the characters | borders of words | `<` `>` |
//! | `{` that begins no repetition: `{id}`, `a{,2}`, `a{01}` | a character | an error, or a repetition | `\{` |
//! | `\Q…\E` | the text as it stands | an error | its characters, escaped |
//! | `\d` `\w` `\s` and their opposites | ASCII; `\s` without the vertical tab | Unicode | classes such as `[0-9]` |
//! | `\b` `\B` | borders of ASCII words | of Unicode words | `(?-u:\b)` |
//! | `[` in a class | a character | a class in the class | `\[` |
//! | `&&` `~~` `--` in a class | characters | operations on sets | `\&&` `\~~` `\--` |
//! | `-` in a class, neither in a range nor last | a character | an error, after `\w` | `\-` |
//! | `\012` | an octal number | an error | `\x{a}` |
//! | `\p{^Lu}` | as `\P{Lu}` | an error | `\P{Lu}` |
//! | `(?)` `(?ii)` `(?i-i)` | flags | an error | nothing, `(?i)`, `(?-i)` |
//! | `a**` `a{2}{3}` | an error | a repetition of one | refused |
//! | `a{1001}` | an error | a repetition | refused |
//! | `(?x)` `(?R)` `(?u)` | an error | flags | refused |
//! | `\b{start}` `\b{end}` | `\b` and a text | borders of words | `(?-u:\b)\{start}` |
//! | `\u0041` `\U00000041` | an error | a character | refused |
//! | `\p{gc=L}` `\p{L&}` | an error | a property | refused |
//!
//! The rest means the same to both and is left as it stands; what neither knows, the crate refuses. Both fold case by
//! Unicode's simple folding: `(?i)k` is the Kelvin sign too.
//!
//! Decision: names of groups may have dots, which RE2 refuses, because they become attributes' keys. Refused, though
//! RE2 takes them, are a name that begins with a digit, the half of a surrogate pair, which no text has, and a repetition
//! behind flags, as in `a(?i)*`.

use std::fmt::Write as _;

/// What is wrong with a pattern.
type Reason = &'static str;

/// Repetitions above which RE2 refuses a pattern.
const MAX_REPETITIONS: u32 = 1000;

const UNCLOSED_CLASS: Reason = "unclosed character class";

/// The names of classes such as `[:alpha:]`.
const ASCII_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// Writes a pattern anew.
pub(super) fn translate(pattern: &str) -> Result<String, Reason> {
    let mut translator = Translator { rest: pattern, out: String::with_capacity(pattern.len()) };
    // Whether what was read last says how often the thing before it may come.
    let mut was_repetition = false;
    while let Some(c) = translator.next() {
        let is_repetition = match c {
            '*' | '+' | '?' => {
                translator.out.push(c);
                true
            }
            '{' => translator.brace()?,
            _ => {
                translator.element(c)?;
                false
            }
        };
        if is_repetition {
            if was_repetition {
                return Err("a repetition operator behind another one");
            }
            if translator.eat("?") {
                translator.out.push('?');
            }
        }
        was_repetition = is_repetition;
    }
    Ok(translator.out)
}

struct Translator<'p> {
    /// What has not been read.
    rest: &'p str,
    out: String,
}

impl<'p> Translator<'p> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    /// Whether the rest begins with this, which is then read.
    fn eat(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Reads as far as `end`, and that too.
    fn until(&mut self, end: &str) -> Option<&'p str> {
        let (text, rest) = self.rest.split_once(end)?;
        self.rest = rest;
        Some(text)
    }

    fn element(&mut self, c: char) -> Result<(), Reason> {
        match c {
            '(' => self.group(),
            '[' => self.class(),
            '\\' => self.escape(),
            _ => {
                self.out.push(c);
                Ok(())
            }
        }
    }

    /// What stands behind `{`; whether that is a repetition.
    fn brace(&mut self) -> Result<bool, Reason> {
        match self.rest.split_once('}').filter(|(counts, _)| is_counts(counts)) {
            Some((counts, rest)) => {
                if counts.split(',').any(|n| n.parse().map_or(!n.is_empty(), |n: u32| n > MAX_REPETITIONS)) {
                    return Err("a repetition of more than 1000 times");
                }
                _ = write!(self.out, "{{{counts}}}");
                self.rest = rest;
                Ok(true)
            }
            None => {
                self.out.push_str("\\{");
                Ok(false)
            }
        }
    }

    /// What stands behind `(`, up to the group's content.
    fn group(&mut self) -> Result<(), Reason> {
        if !self.eat("?") {
            self.out.push('(');
            return Ok(());
        }
        if ["=", "!", "<=", "<!"].iter().any(|ahead| self.rest.starts_with(ahead)) {
            return Err("look-around, including look-ahead and look-behind, is not supported");
        }
        for prefix in ["P<", "<"] {
            if self.eat(prefix) {
                let name = self.until(">").ok_or("unclosed capture group name")?;
                _ = write!(self.out, "(?{prefix}{name}>");
                return Ok(());
            }
        }
        self.flags()
    }

    fn flags(&mut self) -> Result<(), Reason> {
        let (mut on, mut off, mut negated) = (String::new(), String::new(), false);
        loop {
            match self.next().ok_or("unclosed group")? {
                flag @ ('i' | 'm' | 's' | 'U') => {
                    on.retain(|known| known != flag);
                    off.retain(|known| known != flag);
                    if negated { &mut off } else { &mut on }.push(flag);
                }
                '-' if !negated => negated = true,
                ':' | ')' if negated && off.is_empty() => return Err("dangling flag negation operator"),
                end @ (':' | ')') => {
                    let minus = if negated { "-" } else { "" };
                    // Flags that say nothing are none.
                    if end == ':' || !on.is_empty() || negated {
                        _ = write!(self.out, "(?{on}{minus}{off}{end}");
                    }
                    return Ok(());
                }
                _ => return Err("unrecognized flag"),
            }
        }
    }

    /// What stands behind a backslash, outside of classes.
    fn escape(&mut self) -> Result<(), Reason> {
        if self.eat("Q") {
            let (text, rest) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
            self.out.push_str(&regex::escape(text));
            self.rest = rest;
            return Ok(());
        }
        for (name, written) in [("A", "\\A"), ("z", "\\z"), ("b", "(?-u:\\b)"), ("B", "(?-u:\\B)")] {
            if self.eat(name) {
                self.out.push_str(written);
                return Ok(());
            }
        }
        match self.perl_class() {
            Some((negation, members)) => _ = write!(self.out, "[{negation}{members}]"),
            None if self.unicode_class()? => {}
            None => self.character()?,
        }
        Ok(())
    }

    /// What stands behind a backslash, if it is a class of ASCII: its sign of negation, if any, and its members.
    fn perl_class(&mut self) -> Option<(&'static str, &'static str)> {
        let class = match self.rest.bytes().next()? {
            b'd' => ("", "0-9"),
            b'D' => ("^", "0-9"),
            b'w' => ("", "0-9A-Za-z_"),
            b'W' => ("^", "0-9A-Za-z_"),
            b's' => ("", "\\t\\n\\f\\r "),
            b'S' => ("^", "\\t\\n\\f\\r "),
            _ => return None,
        };
        self.next();
        Some(class)
    }

    /// What stands behind a backslash, if it is a class of Unicode; whether it was.
    fn unicode_class(&mut self) -> Result<bool, Reason> {
        const UNKNOWN: Reason = "Unicode property not found";
        let mut negated = self.rest.starts_with('P');
        if !self.eat("p") && !self.eat("P") {
            return Ok(false);
        }
        let name = if self.eat("{") {
            self.until("}").ok_or(UNKNOWN)?
        } else {
            let rest = self.rest;
            let letter = self.next().ok_or("incomplete escape sequence, reached end of pattern prematurely")?;
            &rest[..letter.len_utf8()]
        };
        let bare = name.strip_prefix('^').unwrap_or(name);
        negated ^= bare.len() < name.len();
        if bare.is_empty() || !bare.bytes().all(|c| c.is_ascii_alphabetic() || matches!(c, b'_' | b'-' | b' ')) {
            return Err(UNKNOWN);
        }
        _ = write!(self.out, "\\{}{{{bare}}}", if negated { 'P' } else { 'p' });
        Ok(true)
    }

    /// What stands behind a backslash and is one character.
    fn character(&mut self) -> Result<(), Reason> {
        let is_octal = |c: char| c.is_digit(8);
        match self.next().ok_or("incomplete escape sequence, reached end of pattern prematurely")? {
            '1'..='7' if !self.rest.starts_with(is_octal) => return Err("backreferences are not supported"),
            first @ '0'..='7' => {
                let mut value = first.to_digit(8).unwrap_or_default();
                for _ in 0..2 {
                    let Some(digit) = self.rest.chars().next().and_then(|c| c.to_digit(8)) else { break };
                    value = value * 8 + digit;
                    self.next();
                }
                _ = write!(self.out, "\\x{{{value:x}}}");
            }
            // The crate looks at the digits.
            'x' if self.eat("{") => {
                let digits = self.until("}").ok_or("incomplete escape sequence, reached end of pattern prematurely")?;
                _ = write!(self.out, "\\x{{{digits}}}");
            }
            'x' => {
                let digits = self.rest.get(..2).ok_or("invalid hexadecimal digit")?;
                _ = write!(self.out, "\\x{digits}");
                self.rest = &self.rest[2..];
            }
            c @ ('<' | '>') => self.out.push(c),
            c if "afnrtv".contains(c) || c.is_ascii() && !c.is_ascii_alphanumeric() => {
                self.out.push('\\');
                self.out.push(c);
            }
            _ => return Err("unrecognized escape sequence"),
        }
        Ok(())
    }

    /// What stands behind `[`, up to the bracket that closes the class.
    fn class(&mut self) -> Result<(), Reason> {
        self.out.push('[');
        if self.eat("^") {
            self.out.push('^');
        }
        let mut is_first = true;
        // A bracket that comes first is a character.
        while is_first || !self.eat("]") {
            is_first = false;
            if let Some((name, rest)) = self.rest.strip_prefix("[:").and_then(|rest| rest.split_once(":]")) {
                if !ASCII_CLASSES.contains(&name.strip_prefix('^').unwrap_or(name)) {
                    return Err("ASCII class not found");
                }
                _ = write!(self.out, "[:{name}:]");
                self.rest = rest;
                continue;
            }
            if self.class_escape()? {
                continue;
            }
            self.member(false)?;
            if self.rest.starts_with('-') && self.rest.len() > 1 && !self.rest.starts_with("-]") {
                self.next();
                self.out.push('-');
                self.member(true)?;
            }
        }
        self.out.push(']');
        Ok(())
    }

    /// A class within a class that is written with a backslash; whether there was one.
    fn class_escape(&mut self) -> Result<bool, Reason> {
        let before = self.rest;
        if !self.eat("\\") {
            return Ok(false);
        }
        match self.perl_class() {
            Some(("", members)) => self.out.push_str(members),
            Some((negation, members)) => _ = write!(self.out, "[{negation}{members}]"),
            None if self.unicode_class()? => {}
            None => {
                self.rest = before;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// One character of a class.
    fn member(&mut self, ends_range: bool) -> Result<(), Reason> {
        let c = self.next().ok_or(UNCLOSED_CLASS)?;
        let is_operator = match c {
            '\\' => return self.character(),
            '[' | ']' => true,
            '&' | '~' => self.rest.starts_with(c),
            '-' => ends_range || !self.rest.starts_with(']'),
            _ => false,
        };
        if is_operator {
            self.out.push('\\');
        }
        self.out.push(c);
        Ok(())
    }
}

/// Whether a text in braces is what a repetition has there: one number, or a range that may have no end.
fn is_counts(text: &str) -> bool {
    let is_number = |n: &str| n == "0" || !n.starts_with('0') && !n.is_empty() && n.bytes().all(|c| c.is_ascii_digit());
    match text.split_once(',') {
        Some((min, max)) => is_number(min) && (max.is_empty() || is_number(max)),
        None => is_number(text),
    }
}

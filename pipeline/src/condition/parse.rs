//! From the words of a condition to what it means.

use super::lexer::{Placed, Token, tokens};
use super::{Context, Expression, Fault, Operand, Operator, Path};
use crate::pattern;

/// Longest condition, in bytes.
const MAX_BYTES: usize = 64 << 10;
/// How deep parentheses and negations may nest.
const MAX_DEPTH: usize = 64;

/// Reads a condition.
pub(super) fn condition(text: &str, context: Context) -> Result<Expression, Fault> {
    whole(text, context, |parser| parser.condition(MAX_DEPTH))
}

/// Reads `route()` or `route() where condition`.
pub(super) fn statement(text: &str, context: Context) -> Result<Expression, Fault> {
    whole(text, context, |parser| {
        if !parser.takes_word("route") {
            return Err(parser.fault("the only statement is `route()`, with or without `where …`"));
        }
        parser.expect('(')?;
        parser.expect(')')?;
        if parser.takes_word("where") { parser.condition(MAX_DEPTH) } else { Ok(Expression::Constant(true)) }
    })
}

fn whole(
    text: &str,
    context: Context,
    read: impl FnOnce(&mut Parser<'_>) -> Result<Expression, Fault>,
) -> Result<Expression, Fault> {
    if text.len() > MAX_BYTES {
        let message = format!("the condition is longer than {MAX_BYTES} bytes");
        return Err(Fault { offset: 0, message, hint: None });
    }
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, at: 0, end: text.len(), context };
    let expression = read(&mut parser)?;
    match parser.peek() {
        None => Ok(expression),
        Some(_) => Err(parser.fault("expected `and`, `or` or the end of the condition")),
    }
}

struct Parser<'t> {
    tokens: &'t [Placed],
    at: usize,
    end: usize,
    context: Context,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Option<&'t Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn offset(&self) -> usize {
        self.tokens.get(self.at).map_or(self.end, |(offset, _)| *offset)
    }

    fn fault(&self, message: impl Into<String>) -> Fault {
        Fault { offset: self.offset(), message: message.into(), hint: None }
    }

    fn takes(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.at += usize::from(found);
        found
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(w)) if w == word);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: char) -> Result<(), Fault> {
        if self.takes(&Token::Sign(sign)) { Ok(()) } else { Err(self.fault(format!("expected `{sign}`"))) }
    }

    fn condition(&mut self, depth: usize) -> Result<Expression, Fault> {
        let mut terms = vec![self.term(depth)?];
        while self.takes_word("or") {
            terms.push(self.term(depth)?);
        }
        Ok(one_or(terms, Expression::Or))
    }

    fn term(&mut self, depth: usize) -> Result<Expression, Fault> {
        let mut factors = vec![self.factor(depth)?];
        while self.takes_word("and") {
            factors.push(self.factor(depth)?);
        }
        Ok(one_or(factors, Expression::And))
    }

    fn factor(&mut self, depth: usize) -> Result<Expression, Fault> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(self.fault(format!("conditions nest at most {MAX_DEPTH} levels")));
        };
        if self.takes_word("not") {
            return Ok(Expression::Not(Box::new(self.factor(depth)?)));
        }
        if self.takes(&Token::Sign('(')) {
            let inner = self.condition(depth)?;
            self.expect(')')?;
            return Ok(inner);
        }
        if self.takes_word("IsMatch") {
            return self.is_match();
        }
        let left = self.operand()?;
        match (self.peek(), &left) {
            (Some(Token::Operator(operator)), _) => {
                self.at += 1;
                let at = self.at;
                let right = self.operand()?;
                self.compare(left, *operator, right).map_err(|message| {
                    let offset = self.tokens.get(at).map_or(self.end, |(offset, _)| *offset);
                    Fault { offset, message, hint: None }
                })
            }
            (_, Operand::Bool(value)) => Ok(Expression::Constant(*value)),
            _ => Err(self.fault("expected a comparison: ==, !=, <, <=, > or >=")),
        }
    }

    fn is_match(&mut self) -> Result<Expression, Fault> {
        self.expect('(')?;
        let target = self.operand()?;
        self.expect(',')?;
        let Some(Token::Text(text)) = self.peek() else {
            return Err(self.fault("expected a pattern, which is a text in double quotes"));
        };
        let regex = pattern::compile(text).map_err(|message| self.fault(message))?;
        self.at += 1;
        self.expect(')')?;
        Ok(Expression::Matches(target, regex))
    }

    fn operand(&mut self) -> Result<Operand, Fault> {
        let operand = match self.peek() {
            Some(Token::Text(text)) => Operand::Text(text.as_str().into()),
            Some(Token::Int(int)) => Operand::Int(*int),
            Some(Token::Double(double)) => Operand::Double(*double),
            Some(Token::Word(word)) => match word.as_str() {
                "true" => Operand::Bool(true),
                "false" => Operand::Bool(false),
                "nil" => Operand::Nil,
                word => match number_of(word) {
                    Some(number) => Operand::Int(number),
                    None => return self.path(word),
                },
            },
            _ => return Err(self.fault("expected a path or a value").hinted(self.known())),
        };
        self.at += 1;
        Ok(operand)
    }

    fn path(&mut self, word: &str) -> Result<Operand, Fault> {
        let path = match (self.context, word) {
            (Context::Span | Context::Resource, "project") => Path::Project,
            (Context::Span | Context::Resource, "environment") => Path::Environment,
            (Context::Span, "name" | "span.name") => Path::Name,
            (Context::Span, "kind" | "span.kind") => Path::Kind,
            (Context::Span, "status.code" | "span.status.code") => Path::StatusCode,
            (Context::Span, "status.message" | "span.status.message") => Path::StatusMessage,
            (Context::Span, "instrumentation_scope.name" | "scope.name") => Path::ScopeName,
            (Context::Span, "instrumentation_scope.version" | "scope.version") => Path::ScopeVersion,
            (Context::Span, "attributes" | "span.attributes") => Path::Attribute(self.key()?),
            (Context::Span | Context::Resource, "resource.attributes") | (Context::Resource, "attributes") => {
                Path::ResourceAttribute(self.key()?)
            }
            (Context::Request, "request") => Path::Header(self.key()?),
            _ => {
                let is_call = matches!(self.tokens.get(self.at + 1), Some((_, Token::Sign('('))));
                let message = match is_call {
                    true => format!("the function `{word}` is not supported"),
                    false => format!("`{word}` is not known in the context `{}`", self.context.as_str()),
                };
                return Err(self.fault(message).hinted(self.known()));
            }
        };
        // `key` has consumed the word along with what follows it.
        if matches!(path, Path::Attribute(_) | Path::ResourceAttribute(_) | Path::Header(_)) {
            return Ok(Operand::Path(path));
        }
        self.at += 1;
        Ok(Operand::Path(path))
    }

    /// Consumes a word and the `["key"]` behind it.
    fn key(&mut self) -> Result<Box<str>, Fault> {
        self.at += 1;
        self.expect('[')?;
        let Some(Token::Text(key)) = self.peek() else {
            return Err(self.fault("expected a key, which is a text in double quotes"));
        };
        self.at += 1;
        self.expect(']')?;
        if self.peek() == Some(&Token::Sign('[')) {
            return Err(self.fault("the parts of an attribute's value cannot be compared"));
        }
        Ok(key.as_str().into())
    }

    fn known(&self) -> &'static str {
        match self.context {
            Context::Resource => {
                "known are attributes[\"key\"], project, environment, IsMatch(path, \"pattern\"), texts, numbers, true, false, \
                 nil"
            }
            Context::Span => {
                "known are attributes[\"key\"], resource.attributes[\"key\"], project, environment, name, kind, status.code, status.message, \
                 instrumentation_scope.name, instrumentation_scope.version, IsMatch(path, \"pattern\"), texts, numbers, \
                 true, false, nil"
            }
            Context::Request => "known are request[\"header\"], IsMatch(request[\"header\"], \"pattern\") and texts",
        }
    }

    /// Refuses what could never be true, or means something else than it says.
    fn compare(&self, left: Operand, operator: Operator, right: Operand) -> Result<Expression, String> {
        let is_header = |operand: &Operand| matches!(operand, Operand::Path(Path::Header(_)));
        let is_number = |operand: &Operand| matches!(operand, Operand::Path(Path::Kind | Path::StatusCode));
        let ordered = !matches!(operator, Operator::Equal | Operator::NotEqual);
        for (one, other) in [(&left, &right), (&right, &left)] {
            match other {
                Operand::Text(_) => {}
                _ if is_header(one) => return Err("a header is compared with a text in double quotes".to_owned()),
                _ => {}
            }
            if is_header(one) && ordered {
                return Err("a header is compared with == or !=".to_owned());
            }
            if is_number(one) && matches!(other, Operand::Text(_) | Operand::Bool(_)) {
                return Err("this is compared with SPAN_KIND_…, STATUS_CODE_… or a number".to_owned());
            }
        }
        if !matches!(left, Operand::Path(_)) && !matches!(right, Operand::Path(_)) {
            return Err("one side of a comparison must be a path".to_owned());
        }
        Ok(Expression::Compare(left, operator, right))
    }
}

impl Fault {
    fn hinted(mut self, hint: &str) -> Self {
        self.hint = Some(hint.to_owned());
        self
    }
}

fn one_or(mut list: Vec<Expression>, many: fn(Vec<Expression>) -> Expression) -> Expression {
    match list.pop() {
        Some(only) if list.is_empty() => only,
        Some(last) => {
            list.push(last);
            many(list)
        }
        None => Expression::Constant(false),
    }
}

/// OTTL's names for the numbers of enumerations.
fn number_of(word: &str) -> Option<i64> {
    Some(match word {
        "SPAN_KIND_UNSPECIFIED" | "STATUS_CODE_UNSET" => 0,
        "SPAN_KIND_INTERNAL" | "STATUS_CODE_OK" => 1,
        "SPAN_KIND_SERVER" | "STATUS_CODE_ERROR" => 2,
        "SPAN_KIND_CLIENT" => 3,
        "SPAN_KIND_PRODUCER" => 4,
        "SPAN_KIND_CONSUMER" => 5,
        _ => return None,
    })
}

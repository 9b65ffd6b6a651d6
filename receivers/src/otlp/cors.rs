//! Cross-origin requests: what browsers ask before a page may send spans to another host.
//!
//! Decision: answers are those of the Go package `rs/cors` as the Collector sets it up: credentials are allowed, methods
//! are GET, HEAD and POST, and a preflight that is refused is a 204 without the headers that would allow it. Browsers
//! read nothing else, and a log of refusals would be in the hands of any web page.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method};

const TRUE: HeaderValue = HeaderValue::from_static("true");
const ANY: HeaderValue = HeaderValue::from_static("*");
const METHODS: [&str; 3] = ["GET", "POST", "HEAD"];

/// What a page may always send, as the Collector documents it. Without `content-type` there would be no JSON.
const SAFE_HEADERS: [&str; 4] = ["accept", "accept-language", "content-language", "content-type"];

/// What it may send further when `allowed_headers` says nothing.
const DEFAULT_HEADER: &str = "x-requested-with";

/// Which pages may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    origins: Vec<Pattern>,
    /// In lower case; `None`: all.
    headers: Option<Vec<String>>,
    exposed: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
}

/// An origin in lower case, with at most one `*` for any text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Any,
    Exact(String),
    Around(String, String),
}

impl Cors {
    /// Allows these origins to send these headers, besides those a page may always send. `exposed` is what pages may
    /// read of an answer; `max_age` are the seconds for which a browser may remember a preflight's answer: zero leaves
    /// that to the browser, less than zero forbids it.
    ///
    /// # Errors
    /// If an origin has more than one `*`, or something cannot be a header: the key and what is wrong with it.
    pub(super) fn new(
        origins: &[String],
        headers: &[String],
        exposed: &[String],
        max_age: i64,
    ) -> Result<Self, (&'static str, String)> {
        let origins = origins.iter().map(|origin| Pattern::parse(origin)).collect::<Result<_, _>>();
        let exposed_value = HeaderValue::try_from(exposed.join(", "));
        let exposed_value = exposed_value.map_err(|_| ("exposed_headers", "holds no names of headers".to_owned()))?;
        let headers = match headers {
            [] => Some(vec![DEFAULT_HEADER.to_owned()]),
            all if all.iter().any(|header| header == "*") => None,
            some => Some(some.iter().map(|header| header.to_ascii_lowercase()).collect()),
        };
        Ok(Self {
            origins: origins.map_err(|message| ("allowed_origins", message))?,
            headers,
            exposed: (!exposed.is_empty()).then_some(exposed_value),
            max_age: (max_age != 0).then(|| HeaderValue::from(max_age.max(0))),
        })
    }

    /// The headers of the answer to a preflight; `None` if the request is none.
    pub(super) fn preflight(&self, method: &Method, request: &HeaderMap) -> Option<HeaderMap> {
        let wanted_method = request.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|value| !value.is_empty())?;
        if method != Method::OPTIONS {
            return None;
        }
        let mut answer = HeaderMap::new();
        answer.insert(
            VARY,
            HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
        );
        let wanted_headers = request.get(ACCESS_CONTROL_REQUEST_HEADERS);
        let is_allowed = METHODS.iter().any(|allowed| wanted_method == allowed) && self.allows_headers(wanted_headers);
        if let (Some(origin), true) = (self.allowed_origin(request), is_allowed) {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            answer.insert(ACCESS_CONTROL_ALLOW_METHODS, wanted_method.clone());
            answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
            if let Some(headers) = wanted_headers.filter(|headers| !headers.is_empty()) {
                answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, headers.clone());
            }
            if let Some(max_age) = &self.max_age {
                answer.insert(ACCESS_CONTROL_MAX_AGE, max_age.clone());
            }
        }
        Some(answer)
    }

    /// The further headers of the answer to any other request.
    pub(super) fn headers(&self, method: &Method, request: &HeaderMap) -> HeaderMap {
        let mut answer = HeaderMap::new();
        answer.insert(VARY, HeaderValue::from_static("Origin"));
        if let (Some(origin), true) = (self.allowed_origin(request), METHODS.contains(&method.as_str())) {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
            if let Some(exposed) = &self.exposed {
                answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
            }
        }
        answer
    }

    fn allowed_origin(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = request.get(ORIGIN).filter(|origin| !origin.is_empty())?;
        if self.origins.contains(&Pattern::Any) {
            return Some(ANY);
        }
        let text = origin.to_str().ok()?.to_ascii_lowercase();
        self.origins.iter().any(|pattern| pattern.matches(&text)).then(|| origin.clone())
    }

    fn allows_headers(&self, wanted: Option<&HeaderValue>) -> bool {
        let (Some(allowed), Some(wanted)) = (&self.headers, wanted) else { return true };
        let Ok(wanted) = wanted.to_str() else { return false };
        let mut names = wanted.split(',').map(str::trim).filter(|name| !name.is_empty());
        let allowed = || SAFE_HEADERS.into_iter().chain(allowed.iter().map(String::as_str));
        names.all(|name| allowed().any(|allowed| name.eq_ignore_ascii_case(allowed)))
    }
}

impl Pattern {
    fn parse(origin: &str) -> Result<Self, String> {
        let origin = origin.to_ascii_lowercase();
        match origin.split_once('*') {
            None => Ok(Self::Exact(origin)),
            Some(("", "")) => Ok(Self::Any),
            Some((_, after)) if after.contains('*') => Err(format!("`{origin}` has more than one `*`")),
            Some((before, after)) => Ok(Self::Around(before.to_owned(), after.to_owned())),
        }
    }

    fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => origin == exact,
            Self::Around(before, after) => {
                origin.strip_prefix(before.as_str()).is_some_and(|rest| rest.ends_with(after.as_str()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn origins_are_compared_whole_but_for_one_star() {
        let cors = Cors::new(&strings(&["https://App.example.com", "http://*.dev.test:*"]), &[], &[], 0);
        assert_eq!(cors, Err(("allowed_origins", "`http://*.dev.test:*` has more than one `*`".to_owned())));
        let cors = Cors::new(&strings(&["https://App.example.com", "http://*.dev.test"]), &[], &[], 0).unwrap();
        let allowed = |origin: &'static str| {
            let request = HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(origin))]);
            cors.allowed_origin(&request)
        };
        for origin in ["https://app.example.com", "HTTPS://APP.example.COM", "http://a.dev.test", "http://a.b.dev.test"]
        {
            assert_eq!(allowed(origin).unwrap(), origin, "the origin is given back as it came");
        }
        for origin in ["", "null", "https://app.example.com.evil.test", "http://dev.test", "https://a.dev.test"] {
            assert_eq!(allowed(origin), None, "{origin}");
        }
        // Both sides of the star need letters of their own.
        let cors = Cors::new(&strings(&["aa*aa"]), &[], &[], 0).unwrap();
        assert!(!cors.origins[0].matches("aaa") && cors.origins[0].matches("aaaa"));
    }

    #[test]
    fn header_names_are_compared_without_regard_to_case() {
        let allows = |allowed: &[&str], wanted: &'static str| {
            let cors = Cors::new(&strings(&["*"]), &strings(allowed), &[], 0).unwrap();
            cors.allows_headers(Some(&HeaderValue::from_static(wanted)))
        };
        assert!(allows(&[], "content-type, X-Requested-With") && allows(&[], ""));
        assert!(!allows(&[], "authorization"));
        assert!(allows(&["Authorization", "X-Key"], "x-key,authorization, content-type"));
        assert!(!allows(&["Authorization"], "authorization, x-key"));
        assert!(!allows(&["Authorization"], "x-requested-with"));
        assert!(allows(&["x", "*"], "anything"));
    }
}

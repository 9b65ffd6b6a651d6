//! What happens in a case, all of it a function of a seed.

use super::support::spans::{attribute, wrap};

/// Numbers that a seed gives (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Environments that every project has.
pub(crate) const ENVIRONMENTS: [&str; 3] = ["dev", "stg", "prd"];

/// A case.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Tells this case's names from everything else that may be in a text.
    pub(crate) tag: String,
    /// Slugs; some begin with others.
    pub(crate) projects: Vec<String>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug)]
pub(crate) enum Step {
    /// A key for an environment of a project: one of [`ENVIRONMENTS`], or after those the project's own.
    Issue { project: usize, environment: usize },
    /// One of the keys that there are then.
    Revoke(usize),
    /// Requests at one time.
    Volley(Vec<Shot>),
}

/// A request.
#[derive(Debug)]
pub(crate) struct Shot {
    pub(crate) shown: Shown,
    pub(crate) over_grpc: bool,
    /// Behind the path; over HTTP alone.
    pub(crate) query: &'static str,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) resources: Vec<Claimed>,
}

/// A resource, and attributes that name somebody.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) attributes: Vec<Claim>,
    pub(crate) of_spans: Vec<Claim>,
    pub(crate) spans: usize,
    /// The destination of the first project takes no request with this.
    pub(crate) is_poisoned: bool,
}

/// An attribute that names somebody.
#[derive(Debug, Clone)]
pub(crate) enum Claim {
    Text(&'static str, String),
    Bytes(&'static str, String),
    List(&'static str, String),
}

impl Claim {
    /// The `KeyValue`.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let of = |key: &str, value: &[u8]| [wrap(1, key.as_bytes()), wrap(2, value)].concat();
        match self {
            Self::Text(key, text) => attribute(key, text),
            Self::Bytes(key, text) => of(key, &wrap(7, text.as_bytes())),
            Self::List(key, text) => of(key, &wrap(5, &wrap(1, &wrap(1, text.as_bytes())))),
        }
    }
}

/// What is shown as `Authorization`; numbers are those of keys.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shown {
    Key(usize),
    /// With the scheme in lower case.
    Sloppy(usize),
    /// Two headers, of which the first counts.
    Two(usize, usize),
    /// A key that nobody has made, and then a good one.
    UnknownFirst(usize),
    /// Two keys in one header.
    Joined(usize, usize),
    Basic(usize),
    WithoutScheme(usize),
    /// Without its last character, or with another one.
    Cut(usize),
    Changed(usize),
    /// What is kept of a key for people to see.
    Prefix(usize),
    Id(usize),
    Slug(usize),
    AdminKey,
    Nothing,
}

/// Attributes and headers by which some system or other tells tenants apart.
const ATTRIBUTES: [&str; 10] = [
    "weir.project",
    "weir.environment",
    "service.namespace",
    "deployment.environment.name",
    "deployment.environment",
    "project",
    "environment",
    "auth.project",
    "x-weir-project",
    "traceloop.association.properties.project",
];
const HEADERS: [&str; 9] = [
    "x-weir-project",
    "x-weir-environment",
    "weir.project",
    "project",
    "x-scope-orgid",
    "x-tenant",
    "auth.project",
    "x-forwarded-user",
    "x-api-key",
];

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let tag = format!("{:05x}", random.below(0x10_0000));
        let all = [format!("shop-{tag}"), format!("shop-{tag}-2"), format!("search-{tag}"), format!("a{tag}")];
        let projects = all[..3 + random.below(2)].to_vec();
        let steps = (0..14 + random.below(12)).map(|_| step(random, &projects, &tag)).collect();
        Self { tag, projects, steps }
    }

    /// The environment that a project alone has.
    pub(crate) fn own_environment(&self, project: usize) -> String {
        format!("own-{}-{project}", self.tag)
    }

    pub(crate) fn environment(&self, project: usize, n: usize) -> String {
        ENVIRONMENTS.get(n).map_or_else(|| self.own_environment(project), |&name| name.to_owned())
    }
}

fn step(random: &mut Random, projects: &[String], tag: &str) -> Step {
    match random.below(10) {
        0 => Step::Issue { project: random.below(projects.len()), environment: random.below(4) },
        1 => Step::Revoke(random.below(100)),
        _ => Step::Volley((0..1 + random.below(5)).map(|_| shot(random, projects, tag)).collect()),
    }
}

fn shot(random: &mut Random, projects: &[String], tag: &str) -> Shot {
    let (key, other) = (random.below(100), random.below(100));
    let shown = match random.below(24) {
        0..10 => Shown::Key(key),
        10 | 11 => Shown::Sloppy(key),
        12 | 13 => Shown::Two(key, other),
        14 => Shown::UnknownFirst(key),
        15 => Shown::Joined(key, other),
        16 => Shown::Basic(key),
        17 => Shown::WithoutScheme(key),
        18 => Shown::Cut(key),
        19 => Shown::Changed(key),
        20 => Shown::Prefix(key),
        21 => Shown::Id(key),
        22 => Shown::Slug(random.below(projects.len())),
        _ if random.one_in(2) => Shown::AdminKey,
        _ => Shown::Nothing,
    };
    let queries = ["", "?project=default", "?authorization=Bearer%20x", "?weir.project=../x&key=%00"];
    let headers = (0..random.below(4)).map(|_| (*random.pick(&HEADERS), plain(random, projects, tag))).collect();
    Shot {
        shown,
        over_grpc: random.one_in(2),
        query: random.pick::<&'static str>(&queries),
        headers,
        resources: (0..1 + random.below(3)).map(|_| claimed(random, projects, tag)).collect(),
    }
}

fn claimed(random: &mut Random, projects: &[String], tag: &str) -> Claimed {
    let mut claims = |most: usize| -> Vec<Claim> {
        let mut claims: Vec<Claim> = (0..random.below(most)).map(|_| claim(random, projects, tag)).collect();
        // The same twice, as no SDK sends it.
        if random.one_in(4)
            && let Some(first) = claims.first().cloned()
        {
            claims.push(first);
        }
        claims
    };
    let (attributes, of_spans) = (claims(7), claims(3));
    Claimed { attributes, of_spans, spans: 1 + random.below(2), is_poisoned: random.one_in(6) }
}

fn claim(random: &mut Random, projects: &[String], tag: &str) -> Claim {
    let key = *random.pick(&ATTRIBUTES);
    let slug = random.pick(projects).clone();
    match random.below(8) {
        0 => Claim::Bytes(key, slug),
        1 => Claim::List(key, slug),
        2 => {
            let hostile = [
                String::new(),
                " ".to_owned(),
                format!("../{slug}"),
                format!("{slug}/spans"),
                format!("{slug}\0"),
                slug.to_uppercase(),
                "'; DROP TABLE spans; --".to_owned(),
                "\u{1f36e}".to_owned(),
                "x".repeat(300),
            ];
            Claim::Text(key, random.pick::<String>(&hostile).clone())
        }
        _ => Claim::Text(key, plain(random, projects, tag)),
    }
}

/// A name of somebody: of a project, an environment, or nobody.
fn plain(random: &mut Random, projects: &[String], tag: &str) -> String {
    match random.below(4) {
        0 => (*random.pick(&ENVIRONMENTS)).to_owned(),
        1 => format!("forged-{tag}"),
        _ => random.pick(projects).clone(),
    }
}

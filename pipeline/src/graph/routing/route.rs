//! Which part of a batch goes where.

use super::Row;
use super::config::Action;
use crate::batch::Batch;
use crate::batch::view::Resource;
use crate::condition::{Context, Subject};
use crate::signal::Signal;
use crate::tenant::Tenant;

/// Where each span goes, or each resource of metrics and logs, in the order of the batch: sets of targets.
pub(super) enum Plan {
    /// All alike.
    Whole(u64),
    Parts(Vec<u64>),
}

impl Plan {
    /// Asks the rows of the table. `masks` are their targets, `default` those for what no row moves.
    pub(super) fn of(batch: &mut Batch, table: &[Row], masks: &[u64], default: u64) -> Self {
        let metadata = batch.metadata().cloned();
        let request = Subject::Request(metadata.as_deref());
        // The rows that are still undecided once the request's are: a request is the same for all spans.
        let mut open = Vec::with_capacity(table.len());
        let mut moved = false;
        for (row, &mask) in table.iter().zip(masks) {
            if row.context != Context::Request {
                open.push((row, mask));
            } else if row.condition.holds(request) {
                open.push((row, mask));
                if row.action == Action::Move {
                    moved = true;
                    break;
                }
            }
        }
        let rules = Rules { open, default: if moved { 0 } else { default } };
        if rules.open.iter().all(|(row, _)| row.context == Context::Request) {
            let mask = rules.open.iter().fold(rules.default, |mask, (_, targets)| mask | targets);
            return Self::Whole(mask);
        }
        let mut parts = Vec::with_capacity(batch.len());
        if batch.signal() == Signal::Traces {
            // The spans of a resource follow each other: it is asked about once.
            let mut last: Option<(&[u8], Vec<bool>)> = None;
            for span in batch.spans() {
                let resource = span.resource();
                let by_resource = match &mut last {
                    Some((bytes, holds)) if std::ptr::eq(*bytes, resource.as_bytes()) => holds,
                    last => &mut last.insert((resource.as_bytes(), rules.ask(resource, span.tenant()))).1,
                };
                parts.push(rules.mask(by_resource, Some(Subject::Span(span))));
            }
        } else {
            batch.retain_resources(|resource, tenant| {
                parts.push(rules.mask(&rules.ask(resource, tenant), None));
                true
            });
        }
        match parts.split_first() {
            None => Self::Whole(0),
            Some((first, others)) if others.iter().all(|mask| mask == first) => Self::Whole(*first),
            Some(_) => Self::Parts(parts),
        }
    }

    /// Whether some part goes to exactly these targets.
    pub(super) fn covers(&self, mask: u64) -> bool {
        match self {
            Self::Whole(whole) => *whole == mask,
            Self::Parts(parts) => parts.contains(&mask),
        }
    }

    /// The targets of any part.
    pub(super) fn any(&self) -> u64 {
        match self {
            Self::Whole(mask) => *mask,
            Self::Parts(parts) => parts.iter().fold(0, |any, mask| any | mask),
        }
    }

    /// Keeps those parts of the batch whose targets are wanted.
    pub(super) fn retain(&self, batch: &mut Batch, wanted: impl Fn(u64) -> bool) {
        // `Whole`: the caller asks for targets that the batch has, or for none if it has none.
        let Self::Parts(parts) = self else { return };
        let mut parts = parts.iter();
        let mut next = || parts.next().is_some_and(|mask| wanted(*mask));
        match batch.signal() {
            Signal::Traces => batch.retain(|_| next()),
            Signal::Metrics | Signal::Logs => batch.retain_resources(|_, _| next()),
        };
    }
}

struct Rules<'r> {
    /// Rows to ask, in order; those of the request hold already.
    open: Vec<(&'r Row, u64)>,
    default: u64,
}

impl Rules<'_> {
    /// Which of the rows hold for a resource.
    fn ask(&self, resource: Resource<'_>, tenant: Option<&Tenant>) -> Vec<bool> {
        let subject = Subject::Resource(resource, tenant);
        let holds = |row: &Row| row.context == Context::Resource && row.condition.holds(subject);
        self.open.iter().map(|(row, _)| holds(row)).collect()
    }

    fn mask(&self, by_resource: &[bool], span: Option<Subject<'_>>) -> u64 {
        let mut mask = 0;
        for ((row, targets), &by_resource) in self.open.iter().zip(by_resource) {
            let holds = match row.context {
                Context::Request => true,
                Context::Resource => by_resource,
                Context::Span => span.is_some_and(|span| row.condition.holds(span)),
            };
            if holds {
                mask |= targets;
                if row.action == Action::Move {
                    return mask;
                }
            }
        }
        mask | self.default
    }
}

//! "Did you mean": the nearest of the names that would have been right.

/// The candidate that `name` is probably a misspelling of, if any is near enough.
///
/// Case and the difference between `-` and `_` count for nothing; otherwise about one edit in three characters is
/// allowed, so that short names do not all resemble each other.
pub fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let fold = |text: &str| text.to_lowercase().replace('-', "_");
    // A long name is no misspelling of anything, and the distance is quadratic in it.
    if name.len() > 256 {
        return None;
    }
    let folded = fold(name);
    let allowed = (folded.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&folded, &fold(candidate)), candidate))
        .filter(|&(distance, candidate)| distance <= allowed && distance < candidate.chars().count())
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// The advice for a wrong name: the nearest right one, then all of them.
pub(crate) fn hint(name: &str, kind: &str, candidates: &[&str]) -> Option<String> {
    if candidates.is_empty() {
        return None;
    }
    let all = format!("{kind}: {}", candidates.join(", "));
    Some(match closest(name, candidates.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? {all}"),
        None => all,
    })
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        for (name, expected) in [
            ("htpp", Some("http")),
            ("HTTP", Some("http")),
            ("grcp", Some("grpc")),
            ("max-size", Some("max_size")),
            ("maxsize", Some("max_size")),
            ("endpoint", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(closest(name, ["grpc", "http", "max_size"]), expected, "{name}");
        }
    }
}

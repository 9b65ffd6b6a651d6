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
    let named: Vec<&str> = candidates.iter().copied().filter(|name| !name.is_empty()).collect();
    let all = format!("{kind}: {}", named.join(", "));
    Some(match closest(name, candidates.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? {all}"),
        None => all,
    })
}

/// What to do about a key that the Collector knows, or once knew, and that is not among the keys known here: of no
/// component, or not of the one that has these.
pub(crate) fn known_elsewhere(key: &str, known: &[&str]) -> Option<&'static str> {
    let is_beside = |other: &str| known.contains(&other);
    Some(match key {
        "read_buffer_size" | "write_buffer_size" => "Weir sizes its network buffers itself: remove the key",
        "max_conns_per_host" => {
            "connections are opened as requests need them: set `sending_queue::num_consumers` to so many"
        }
        "cookies" => "no cookies are kept: remove the key",
        "storage" => {
            "only the queues of `otlp_grpc` and `otlp_http` can be on disk, by `sending_queue::storage`: remove the key"
        }
        "tls_settings" | "tls_setting" => "it is called `tls`",
        "retry" => "it is called `retry_on_failure`",
        "queue" => "it is called `sending_queue`",
        "loglevel" => "it has become `verbosity: basic|normal|detailed`",
        "ballast_size_mib" | "size_mib" => "there is no garbage collector to calm: remove the key",
        "console" => "Weir's own metrics go to Prometheus (`pull`) or over OTLP: use `otlp`",
        "views" => "all of Weir's own metrics are shown as they are: remove the key",
        "propagators" => "Weir makes no traces of itself: remove the key",
        "disable_zap_resource" => "Weir's log lines do not repeat the resource: remove the key",
        "with_resource_constant_labels" => {
            "the resource is told once, by `target_info`, to be joined with what needs it: remove the key"
        }
        "block_profile_fraction" | "mutex_profile_fraction" => "it is of Go programs: remove the key",
        "save_to_file" => "profiles are asked for, at /debug/pprof/profile: remove the key",
        "check_collector_pipeline" => "the Collector does not use it any more either: remove the key",
        "fingerprint_size" | "max_log_size" | "max_concurrent_files" | "max_batches" | "encoding" | "multiline"
            if is_beside("include") =>
        {
            "files are read line by line, one after the other, a request in each line: remove the key"
        }
        "encoding" if is_beside("rotation") => {
            "there are no encoding extensions: use `format`, which is `json` or `proto`, and remove the key"
        }
        "include_file_name" | "include_file_path" | "include_file_name_resolved" | "include_file_path_resolved" => {
            "data goes on as it is in the file, without the file's name: remove the key"
        }
        "include_file_owner_name"
        | "include_file_owner_group_name"
        | "include_file_record_number"
        | "include_file_record_offset" => "data goes on as it is in the file: remove the key",
        "delete_after_read" => {
            "files stay when they are read: let what writes them remove them, as `rotation::max_backups` of `file` does, and \
             remove the key"
        }
        "exclude_older_than" | "ordering_criteria" => {
            "all files that match are read, in the order of their names: narrow `include`, or name files in `exclude`, and \
             remove the key"
        }
        "compression" if is_beside("replay_file") => {
            "what the `file` exporter compresses is known by itself; files that were compressed as a whole are not read: \
             unpack them, and remove the key"
        }
        "force_flush_period" => "a last line waits until it is whole, however long: remove the key",
        "retry_on_failure" if is_beside("replay_file") => {
            "a request is read again until the pipelines take it: remove the key"
        }
        "polls_to_archive" => "files are known by where they are on the disk, not by how they begin: remove the key",
        "initial_buffer_size" => "buffers grow with the requests in the files: remove the key",
        "acquire_fs_lock" => "files are read without a lock: remove the key",
        "header" | "preserve_leading_whitespaces" | "preserve_trailing_whitespaces" if is_beside("replay_file") => {
            "there is a request in each line, and nothing else: remove the key"
        }
        "cipher_suites" | "curve_preferences" | "include_insecure_cipher_suites" => {
            "TLS 1.2 and 1.3 are spoken with what rustls holds to be safe: remove the key"
        }
        "dialer" => "connections are kept while they work: remove the key",
        "ca_file" | "ca_pem" if is_beside("client_ca_file") => {
            "certificates of clients are checked by `client_ca_file`"
        }
        "disable_caller" | "disable_stacktrace" | "development" => {
            "Weir's log has neither callers nor stack traces: remove the key"
        }
        "error_output_paths" => "the log has no errors of its own to write elsewhere: remove the key",
        "profiles_endpoint" => "profiles are not supported: remove the key",
        "group_by_attributes" => "all data goes to one file: remove the key",
        "tpm" => "keys are read from files or texts: use `key_file` or `key_pem`",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{closest, known_elsewhere};

    #[test]
    fn keys_of_the_collectors_file_receivers_have_advice_there_and_only_there() {
        let of_files = ["include", "exclude", "start_at", "replay_file", "poll_interval"];
        for key in [
            "delete_after_read",
            "exclude_older_than",
            "ordering_criteria",
            "compression",
            "force_flush_period",
            "retry_on_failure",
            "polls_to_archive",
            "initial_buffer_size",
            "acquire_fs_lock",
            "header",
            "encoding",
            "preserve_leading_whitespaces",
            "include_file_record_offset",
        ] {
            let advice = known_elsewhere(key, &of_files);
            assert!(advice.is_some_and(|advice| advice.ends_with("remove the key")), "{key}: {advice:?}");
        }
        for (key, known) in [("compression", "endpoint"), ("retry_on_failure", "path"), ("encoding", "endpoint")] {
            assert_eq!(known_elsewhere(key, &[known]), None, "{key}");
        }
    }

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

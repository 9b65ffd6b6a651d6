use weir_pipeline::config::{ComponentId, Node};
use weir_pipeline::graph::Section;
use weir_pipeline::node::Context;

use super::*;

fn extension(yaml: &str) -> Result<Arc<dyn Extension>, String> {
    let node = Node::parse("weir.yaml", yaml).unwrap();
    let context = Context::new("file_storage", Default::default(), weir_pipeline::clock::Environment::system());
    let section = Section { node: &node, path: "extensions::file_storage", signals: &[], context };
    build(&section).map_err(|error| error.to_string())
}

fn wrong(yaml: &str) -> String {
    extension(yaml).err().unwrap_or_else(|| panic!("{yaml} is taken"))
}

#[test]
fn defaults_are_those_of_the_collector_but_for_fsync() {
    let storage = extension("{}").unwrap().storage().unwrap();
    assert!(storage.fsync);
    #[cfg(unix)]
    assert_eq!(storage.directory, Path::new("/var/lib/otelcol/file_storage"));
    let all = "{directory: /d, create_directory: true, directory_permissions: '0700', timeout: 2s, fsync: false,
                recreate: true, compaction: {on_start: true, on_rebound: true, directory: /tmp, check_interval: 5s,
                max_transaction_size: 65536, cleanup_on_start: true, rebound_needed_threshold_mib: 100,
                rebound_trigger_threshold_mib: 10}}";
    let storage = extension(all).unwrap().storage().unwrap();
    assert_eq!(storage, StorageDirectory { directory: "/d".into(), fsync: false });
}

#[test]
fn what_is_wrong_is_said() {
    assert!(wrong("{directory: ''}").contains("extensions::file_storage::directory: must not be empty"));
    for mode in ["9", "rwx", "10000"] {
        assert!(wrong(&format!("{{directory_permissions: '{mode}'}}")).contains("octal"), "{mode}");
    }
    assert!(wrong("{compaction: {on_strat: true}}").contains("on_start"));
    assert!(wrong("{fsinc: true}").contains("fsync"));
}

#[tokio::test]
async fn the_directory_must_be_there_or_be_made() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("a").join("b");
    let yaml = |more: &str| format!("{{directory: '{}'{more}}}", directory.display());
    let error = extension(&yaml("")).unwrap().start().await.unwrap_err().to_string();
    assert!(error.contains("is not there: make it, or set `create_directory: true`"), "{error}");
    extension(&yaml(", create_directory: true, directory_permissions: '0700'")).unwrap().start().await.unwrap();
    assert!(directory.is_dir());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(directory.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }
    extension(&yaml("")).unwrap().start().await.unwrap();
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "nothing is left behind");

    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = extension(&format!("{{directory: '{}'}}", file.display())).unwrap().start().await.unwrap_err();
    assert!(error.to_string().contains("is not a directory"), "{error}");
}

#[test]
fn it_is_found_by_its_id() {
    let id: ComponentId = "file_storage/x".parse().unwrap();
    let extensions = weir_pipeline::extension::Extensions::new(vec![(id, extension("{directory: /d}").unwrap())]);
    let node = Node::parse("weir.yaml", "file_storage/x").unwrap();
    assert_eq!(extensions.storage(&node, "p").unwrap().directory, Path::new("/d"));
    let other = Node::parse("weir.yaml", "file_storage").unwrap();
    let error = extensions.storage(&other, "exporters::otlp::sending_queue::storage").unwrap_err().to_string();
    assert!(error.contains("no extension \"file_storage\" is started"), "{error}");
}

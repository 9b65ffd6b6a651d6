//! A query sees one project, or one environment of it, and nothing else (invariant I4).

use std::collections::BTreeMap;

use weir_store::objects::Root;
use weir_store::query::{Engine, Format, write};

use crate::support::append;

async fn answer(engine: &Engine, sql: &str) -> Result<String, String> {
    let batches = engine.collect(sql).await.map_err(|error| error.to_string())?;
    let mut csv = Vec::new();
    write(&batches, Format::Csv, &mut csv).unwrap();
    Ok(String::from_utf8(csv).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_the_project_can_be_reached() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let root = Root::open(path, &BTreeMap::new()).unwrap();
    append(&root, "mine", "dev", 0, 1).await;
    append(&root, "theirs", "secret", 0, 2).await;
    let files = std::fs::read_dir(folder.path().join("projects/theirs/spans/environment=secret")).unwrap();
    let day = files.flatten().next().unwrap().path();
    let file = std::fs::read_dir(day).unwrap().flatten().next().unwrap().path();
    let file = file.to_str().unwrap();
    let table = format!("{path}/projects/theirs/spans");
    let before = tree(folder.path());

    let engine = Engine::over(&root, "mine").await.unwrap();
    assert_eq!(
        answer(&engine, "select environment, count(*) n from spans group by 1").await.unwrap(),
        "environment,n\ndev,1\n"
    );
    for sql in [
        format!("select * from '{file}'"),
        format!("select * from \"{file}\""),
        format!("select * from 'file://{file}'"),
        format!("select * from '{table}'"),
        format!("select * from delta_scan('{table}')"),
        format!("select * from read_parquet('{file}')"),
        format!("select * from parquet_scan('{file}')"),
        format!("select * from parquet_metadata('{file}')"),
        "select * from metadata_cache()".to_owned(),
        "select * from list_files_cache()".to_owned(),
        format!("create external table x stored as parquet location '{file}'"),
        format!("create external table x stored as deltatable location '{table}'"),
        "create table x as select * from spans".to_owned(),
        "create view x as select * from spans".to_owned(),
        format!("copy spans to '{path}/out.parquet'"),
        format!("copy (select 1) to '{path}/out.csv' stored as csv"),
        "insert into spans select * from spans".to_owned(),
        "delete from spans".to_owned(),
        "update spans set name = 'x'".to_owned(),
        "drop table spans".to_owned(),
        format!("set datafusion.catalog.location = '{path}'"),
        "prepare p as select * from spans".to_owned(),
        "create schema theirs".to_owned(),
        "create database theirs".to_owned(),
        "explain analyze insert into spans select * from spans".to_owned(),
        "select * from theirs".to_owned(),
        "select * from theirs.spans".to_owned(),
        "select * from theirs.public.spans".to_owned(),
        "select * from datafusion.theirs.spans".to_owned(),
        "select * from \"../theirs/spans\"".to_owned(),
        "select 1; select 2".to_owned(),
    ] {
        let answer = answer(&engine, &sql).await;
        assert!(answer.is_err(), "{sql} was answered: {answer:?}");
    }
    let tables = answer(&engine, "select table_catalog, table_schema, table_name from information_schema.tables").await;
    let tables = tables.unwrap();
    let named: Vec<&str> = tables.lines().skip(1).filter(|line| !line.contains(",information_schema,")).collect();
    assert_eq!(named, ["datafusion,public,spans"]);
    assert_eq!(tree(folder.path()), before, "nothing was written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_is_a_filter_that_no_statement_sees_past() {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::open(folder.path().to_str().unwrap(), &BTreeMap::new()).unwrap();
    append(&root, "web", "dev", 0, 1).await;
    append(&root, "web", "prd", 0, 2).await;
    append(&root, "web", "it's", 0, 3).await;
    let engine = || async { Engine::over(&root, "web").await.unwrap() };
    let dev = engine().await.within("dev");
    for (sql, rows) in [
        ("select count(*) from spans", "1"),
        ("select count(*) from spans where environment = 'prd'", "0"),
        ("select count(*) from spans where environment = 'prd' or true", "1"),
        ("select count(*) from spans where environment <> 'dev' or 1 = 1", "1"),
        ("select count(*) from spans a full outer join spans b on true", "1"),
        ("select count(*) from (select * from spans union all select * from public.spans)", "2"),
        ("with spans as (select * from spans) select count(*) from spans", "1"),
        ("select count(distinct environment) from datafusion.public.spans", "1"),
        ("select max(environment) from spans", "dev"),
        ("select min(environment) from spans where exists (select 1 from spans s where s.environment = 'dev')", "dev"),
    ] {
        let answer = answer(&dev, sql).await.unwrap();
        assert_eq!(answer.lines().nth(1), Some(rows), "{sql}: {answer}");
    }
    // Columns are those of the whole, and files of others are not read.
    let plan = answer(&dev, "explain select name from spans").await.unwrap();
    assert!(!plan.contains("environment=prd"), "{plan}");
    let columns = answer(&dev, "describe spans").await.unwrap();
    assert_eq!(columns, answer(&engine().await, "describe spans").await.unwrap());
    // A name that looks like SQL is a name.
    for (environment, rows) in [("it's", "3"), ("dev' or 'a' = 'a", "0"), ("", "0"), ("DEV", "0")] {
        let engine = engine().await.within(environment);
        let answer = answer(&engine, "select count(*) from spans").await.unwrap();
        assert_eq!(answer.lines().nth(1), Some(rows), "{environment}");
    }
}

/// All files below a folder.
fn tree(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => all.extend(tree(&path)),
            path => all.push(path),
        }
    }
    all.sort();
    all
}

//! SQL over the spans, also while a collector writes them.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use deltalake::arrow::array::RecordBatch;
use deltalake::datafusion::catalog::TableProvider;
use deltalake::datafusion::catalog::view::ViewTable;
use deltalake::datafusion::common::DataFusionError;
use deltalake::datafusion::datasource::provider_as_source;
use deltalake::datafusion::execution::SendableRecordBatchStream;
use deltalake::datafusion::execution::SessionStateBuilder;
use deltalake::datafusion::execution::context::SQLOptions;
use deltalake::datafusion::execution::memory_pool::FairSpillPool;
use deltalake::datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use deltalake::datafusion::logical_expr::LogicalPlanBuilder;
use deltalake::datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use deltalake::datafusion::prelude::{SessionConfig, SessionContext, col, lit};
use futures::TryStreamExt;
use weir_pipeline::clock::Environment as Clock;
use weir_pipeline::tenant::InvalidSlug;

pub use crate::answer::{AnswerWriter, Format, write};

use crate::StoreError;
use crate::objects::Root;
use crate::registry::{Registry, RegistryError};
use crate::table::{Delta, Table};

/// The name of the spans' table in SQL.
pub const TABLE: &str = "spans";

/// Memory a query may take before it spills to disk, in bytes.
const QUERY_MEMORY: usize = 1 << 30;

/// A query was not answered. The message is one line for the person who asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct QueryError(String);

/// Answers SQL over one project's spans, or those of one environment of it.
///
/// Whoever asks has a session in which this one table is all there is: no other project has a name in it. Statements that
/// could give one a name (`CREATE EXTERNAL TABLE`, `COPY`, `SET`) are refused, and a path is no table. The environment is
/// a filter below the table's name, which no statement can see past.
#[derive(Debug)]
pub struct Engine {
    table: tokio::sync::Mutex<Delta>,
    environment: Option<String>,
    /// Shared by all queries: their memory, and what is known of files' footers.
    runtime: Arc<RuntimeEnv>,
}

impl Engine {
    /// Opens the spans of a project of the store at `url`.
    ///
    /// # Errors
    /// If there is no such store or no table in it, or it cannot be read.
    pub async fn open(url: &str, options: &BTreeMap<String, String>, project: &str) -> Result<Self, StoreError> {
        Self::over(&Root::open(url, options)?, project).await
    }

    /// Opens the spans of a project of an open store.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn over(root: &Root, project: &str) -> Result<Self, StoreError> {
        let runtime =
            RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(QUERY_MEMORY))).build_arc().map_err(
                |error| StoreError::Config { url: root.url().to_string(), message: one_line(&error.to_string()) },
            )?;
        // A project that has taken another's name has its data elsewhere.
        let wrong = |message: String| StoreError::Config { url: root.url().to_string(), message };
        let slug = project.parse().map_err(|error: InvalidSlug| wrong(format!("project {error}")))?;
        let folder = match Registry::new(root, Clock::system()).folder_of(&slug).await {
            Ok(folder) => folder,
            Err(RegistryError::Store(error)) => return Err(error),
            Err(error) => return Err(wrong(error.to_string())),
        };
        Ok(Self { table: tokio::sync::Mutex::new(Delta::open(root, &folder).await?), environment: None, runtime })
    }

    /// The same for one environment alone.
    #[must_use]
    pub fn within(self, environment: &str) -> Self {
        Self { environment: Some(environment.to_owned()), ..self }
    }

    /// Starts a query over what is committed now. Only reading statements are possible.
    ///
    /// # Errors
    /// If the statement is not valid, or its data cannot be read.
    pub async fn sql(&self, statement: &str) -> Result<SendableRecordBatchStream, QueryError> {
        let context = self.session().await?;
        let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let query = context.sql_with_options(statement, read_only).await.map_err(|e| explain(&e))?;
        query.execute_stream().await.map_err(|e| explain(&e))
    }

    /// The whole answer to a query, and nothing but its schema if there are no rows.
    ///
    /// # Errors
    /// As [`Self::sql`].
    pub async fn collect(&self, statement: &str) -> Result<Vec<RecordBatch>, QueryError> {
        let stream = self.sql(statement).await?;
        let schema = stream.schema();
        let batches: Vec<RecordBatch> = stream.try_collect().await.map_err(|e| explain(&e))?;
        Ok(if batches.is_empty() { vec![RecordBatch::new_empty(schema)] } else { batches })
    }

    /// Writes the answer to a query as its rows come.
    ///
    /// # Errors
    /// As [`Self::sql`], also when rows have been written already. Whether they could be written is what is returned.
    pub async fn write(&self, statement: &str, format: Format, out: impl Write) -> Result<io::Result<()>, QueryError> {
        let mut rows = self.sql(statement).await?;
        let mut answer = AnswerWriter::new(format, rows.schema(), out);
        while let Some(batch) = rows.try_next().await.map_err(|e| explain(&e))? {
            if let Err(error) = answer.write(&batch) {
                return Ok(Err(error));
            }
        }
        Ok(answer.finish())
    }

    /// A session that knows nothing but the spans.
    async fn session(&self) -> Result<SessionContext, QueryError> {
        let mut table = self.table.lock().await;
        table.refresh().await.map_err(|e| QueryError(crate::objects::one_line(&e)))?;
        let mut config = SessionConfig::new().with_information_schema(true);
        config.options_mut().execution.parquet.pushdown_filters = true;
        config.options_mut().execution.parquet.reorder_filters = true;
        // Decision: a limit is not pushed below the operators. delta-rs' scan says that it takes one and does not where
        // only partition columns are read, so that `SELECT date FROM spans LIMIT 2` had all rows. What it costs is
        // little: a scan is still told how many rows are wanted, and sorting keeps no more than those.
        let rules = PhysicalOptimizer::new().rules.into_iter().filter(|rule| rule.name() != "LimitPushdown").collect();
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::clone(&self.runtime))
            .with_default_features()
            .with_physical_optimizer_rules(rules)
            .build();
        let context = SessionContext::new_with_state(state);
        let delta = table.delta();
        delta.update_datafusion_session(&context.state()).map_err(|e| QueryError(one_line(&e.to_string())))?;
        let provider = delta.table_provider().with_session(Arc::new(context.state())).await.map_err(|e| explain(&e))?;
        let provider = match &self.environment {
            Some(environment) => only(environment, provider).map_err(|e| explain(&e))?,
            None => provider,
        };
        context.register_table(TABLE, provider).map_err(|e| explain(&e))?;
        Ok(context)
    }
}

/// The rows of one environment, as a table that stands for the whole.
fn only(environment: &str, all: Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let plan = LogicalPlanBuilder::scan(TABLE, provider_as_source(all), None)?
        .filter(col("environment").eq(lit(environment)))?
        .build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

/// DataFusion's error as one line, without its wrapping.
pub(crate) fn explain(error: &DataFusionError) -> QueryError {
    let text = match error.find_root() {
        DataFusionError::SchemaError(inner, _) => inner.to_string(),
        DataFusionError::SQL(inner, _) => inner.to_string(),
        DataFusionError::Plan(text) | DataFusionError::Execution(text) | DataFusionError::Configuration(text) => {
            text.clone()
        }
        other => other.strip_backtrace(),
    };
    QueryError(one_line(&text))
}

fn one_line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ").replace("datafusion.public.", "");
    if line.starts_with("table '") && line.ends_with("' not found") {
        line.push_str(": the spans are in `spans`");
    }
    if ["DDL", "DML", "Statement"].iter().any(|kind| line.starts_with(&format!("{kind} not supported: "))) {
        line.push_str(" (the store can only be read)");
    }
    // DataFusion lists all columns.
    if let Some(at) = line.find(" Valid fields are ") {
        line.truncate(at);
        line.push_str(" `DESCRIBE spans` lists the columns.");
    }
    line
}

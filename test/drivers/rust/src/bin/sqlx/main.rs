//! The driver scenarios with sqlx, and its own pool.

mod flows;
mod values;

use pgsteer_drivers::{Driver, Error, Result, Rows, Run, Session, Target, failed, skip};
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgRow, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, PgConnection, Row, ValueRef};

fn error(error: sqlx::Error) -> Error {
    let Some(db) = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>()) else {
        return failed(error.to_string());
    };
    let position = match db.position() {
        Some(sqlx::postgres::PgErrorPosition::Original(at)) => at.to_string(),
        _ => String::new(),
    };
    Error {
        message: db.message().into(),
        code: db.code().into(),
        detail: db.detail().unwrap_or_default().into(),
        table: db.table().unwrap_or_default().into(),
        constraint: db.constraint().unwrap_or_default().into(),
        position,
        skipped: false,
    }
}

fn configure(target: &Target) -> PgConnectOptions {
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&target.host)
        .port(target.port)
        .username(&target.user)
        .password(&target.password)
        .database(&target.database)
        .ssl_mode(if target.tls { PgSslMode::VerifyFull } else { PgSslMode::Prefer })
        .options(target.options.iter().map(|(name, value)| (name, value)));
    if target.tls {
        options = options.ssl_root_cert(&target.root_cert);
    }
    match &target.application_name {
        Some(name) => options.application_name(name),
        None => options,
    }
}

struct Connection(PgConnection);

fn texts(rows: Vec<PgRow>) -> Result<Rows> {
    let value = |row: &PgRow, i: usize| -> Result<String> {
        let raw = row.try_get_raw(i).map_err(error)?;
        if raw.is_null() {
            return Ok("<null>".into());
        }
        raw.as_str().map(String::from).map_err(|error| failed(error.to_string()))
    };
    rows.iter().map(|row| (0..row.len()).map(|i| value(row, i)).collect()).collect()
}

impl Connection {
    async fn numbers(&mut self, sql: &str, args: &[i32], persistent: bool) -> Result<Vec<i32>> {
        let mut query = sqlx::query_scalar::<_, i32>(AssertSqlSafe(sql.to_string())).persistent(persistent);
        for each in args {
            query = query.bind(*each);
        }
        query.fetch_all(&mut self.0).await.map_err(error)
    }
}

impl Session for Connection {
    /// By the simple protocol.
    async fn rows(&mut self, sql: &str) -> Result<Rows> {
        texts(sqlx::raw_sql(AssertSqlSafe(sql.to_string())).fetch_all(&mut self.0).await.map_err(error)?)
    }

    async fn named(&mut self, sql: &str, args: &[i32]) -> Result<Vec<i32>> {
        self.numbers(sql, args, true).await
    }

    async fn unnamed(&mut self, sql: &str, args: &[i32]) -> Result<Vec<i32>> {
        self.numbers(sql, args, false).await
    }

    async fn forget(&mut self) -> Result {
        self.0.clear_cached_statements().await.map_err(error)
    }

    async fn close(self) -> Result {
        self.0.close().await.map_err(error)
    }

    /// Without an end the driver only drops its socket.
    async fn cut(self) {
        drop(self.0);
    }
}

struct Sqlx;

async fn open(target: &Target) -> Result<Connection> {
    configure(target).connect().await.map(Connection).map_err(error)
}

impl Driver for Sqlx {
    type Session = Connection;

    async fn connect(&self, target: &Target) -> Result<Connection> {
        open(target).await
    }

    /// sqlx always asks for this one.
    fn timezone(&self) -> &'static str {
        "UTC"
    }

    async fn own(&self, name: &str, run: &Run<'_, Self>) -> Option<Result> {
        Some(match name {
            "simple_query" => values::simple_query(run).await,
            "multi_statement" => values::multi_statement(run).await,
            "extended_query" => values::extended_query(run).await,
            "parameters_null_and_arrays" => values::parameters(run).await,
            "binary_types" => values::binary_types(run).await,
            "copy_in" => flows::copy_in(run).await,
            "copy_out" => flows::copy_out(run).await,
            "copy_in_error" => flows::copy_in_error(run).await,
            "listen_notify" => flows::listen_notify(run).await,
            "savepoints" => flows::savepoints(run).await,
            "ssl" => flows::ssl(run).await,
            "pool" => flows::pool(run).await,
            "cancel" => skip("sqlx has no cancel"),
            "notices" => skip("sqlx gives notices to its log only"),
            "backend_pid" => skip("it does not tell the backend's pid"),
            _ => return None,
        })
    }
}

fn main() {
    pgsteer_drivers::main(Sqlx);
}

//! Runs the driver scenarios of `../SCENARIOS.md`: one after the other, each bounded, one line of JSON per scenario on standard output.
//! What the drivers share is written once, over the traits of this file.

pub mod shared;
mod state;

use std::env;
use std::future::Future;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

/// All scenarios, in the order in which they run.
const NAMES: &str = "simple_query multi_statement extended_query parameters_null_and_arrays named_prepared unnamed_prepared prepared_after_ddl
    prepared_many pipeline cursor cursor_fetch_portal copy_in copy_out copy_in_error listen_notify cancel ssl large_objects binary_types errors
    error_in_transaction savepoints set_show set_local startup_options temp_tables advisory_locks with_hold_cursor sql_prepare
    isolation_levels read_only_session notices backend_pid two_phase reconnect wrong_password unknown_database concurrency pool close_midway
    orm_schema";

/// What went wrong, with what the server said of it; or why there is nothing to try.
#[derive(Debug, Default)]
pub struct Error {
    pub message: String,
    pub code: String,
    pub detail: String,
    pub table: String,
    pub constraint: String,
    pub position: String,
    pub skipped: bool,
}

pub type Result<T = ()> = std::result::Result<T, Error>;

/// A failure of the scenario itself.
pub fn failed(message: impl Into<String>) -> Error {
    Error { message: message.into(), ..Error::default() }
}

/// A driver has no interface for this.
pub fn skip(reason: &str) -> Result {
    Err(Error { message: reason.into(), skipped: true, ..Error::default() })
}

/// Fails unless both are the same.
pub fn equal<T: PartialEq<U> + std::fmt::Debug, U: std::fmt::Debug>(what: &str, got: T, wanted: U) -> Result {
    if got == wanted {
        return Ok(());
    }
    let text: String = format!("{what}: got {got:?}, expected {wanted:?}").chars().take(400).collect();
    Err(failed(text))
}

/// Fails unless the result is an error with one of these SQLSTATEs, separated by spaces.
pub fn code<T>(what: &str, result: Result<T>, codes: &str) -> Result<Error> {
    match result {
        Ok(_) => Err(failed(format!("{what}: no error, expected {codes}"))),
        Err(error) if !error.code.is_empty() && codes.contains(&error.code) => Ok(error),
        Err(error) => Err(failed(format!("{what}: got {:?} ({}), expected {codes}", error.code, error.message))),
    }
}

/// Where to connect, as whom, and how.
#[derive(Clone)]
pub struct Target {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    pub database: String,
    pub root_cert: String,
    /// verify-full instead of none.
    pub tls: bool,
    pub application_name: Option<String>,
    /// Settings, for the startup parameter `options`.
    pub options: Vec<(String, String)>,
}

pub type Rows = Vec<Vec<String>>;

/// One connection, as far as the drivers are alike. Values are text; NULL is `<null>`.
#[allow(async_fn_in_trait)]
pub trait Session {
    /// Statements without parameters, as the driver sends such; rows of all of them.
    async fn rows(&mut self, sql: &str) -> Result<Rows>;
    /// A statement with integers by name, prepared once; its first column.
    async fn named(&mut self, sql: &str, args: &[i32]) -> Result<Vec<i32>>;
    /// The same without a name.
    async fn unnamed(&mut self, sql: &str, args: &[i32]) -> Result<Vec<i32>>;
    /// Forgets the statements that `named` prepared.
    async fn forget(&mut self) -> Result;
    /// Ends the connection as one should.
    async fn close(self) -> Result;
    /// Closes the socket without a word.
    async fn cut(self);

    async fn exec(&mut self, sql: &str) -> Result {
        self.rows(sql).await.map(|_| ())
    }

    /// The only value of the only row.
    async fn one(&mut self, sql: &str) -> Result<String> {
        let rows = self.rows(sql).await?;
        match rows.as_slice() {
            [row] if row.len() == 1 => Ok(row[0].clone()),
            other => Err(failed(format!("{sql}: got {other:?}, expected one value"))),
        }
    }
}

/// A driver: how it connects, and what it does in its own way.
#[allow(async_fn_in_trait)]
pub trait Driver: Sized {
    type Session: Session;
    async fn connect(&self, target: &Target) -> Result<Self::Session>;
    /// A time zone that a connection can be opened with.
    fn timezone(&self) -> &'static str {
        "Asia/Tokyo"
    }
    /// The scenario of that name; None where it is one of those that all drivers share.
    async fn own(&self, name: &str, run: &Run<'_, Self>) -> Option<Result>;
}

/// One scenario under way.
pub struct Run<'a, D: Driver> {
    pub driver: &'a D,
    pub target: &'a Target,
    pub schema: &'a str,
}

impl<D: Driver> Run<'_, D> {
    pub async fn connect(&self) -> Result<D::Session> {
        self.driver.connect(self.target).await
    }

    /// A table's name, qualified.
    pub fn name(&self, table: &str) -> String {
        format!("{}.{table}", self.schema)
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

fn say(name: &str, result: Result) {
    let (status, detail) = match result {
        Ok(()) => ("passed", String::new()),
        Err(error) if error.skipped => ("skipped", error.message),
        Err(error) => ("failed", format!("{} {}", error.message, error.code)),
    };
    println!("{}", serde_json::json!({ "scenario": name, "status": status, "detail": detail.trim() }));
}

async fn bounded(work: impl Future<Output = Result>) -> Result {
    tokio::time::timeout(LIMIT, work).await.unwrap_or_else(|_| Err(failed("timed out")))
}

async fn run_all<D: Driver>(driver: D) -> Result {
    let target = Target {
        host: variable("PGHOST"),
        port: variable("PGPORT").parse().map_err(|_| failed("PGPORT is no port"))?,
        user: variable("PGUSER"),
        password: variable("PGPASSWORD"),
        database: variable("PGDATABASE"),
        root_cert: variable("PGSSLROOTCERT"),
        tls: false,
        application_name: None,
        options: Vec::new(),
    };
    let (schema, only) = (variable("SCHEMA"), variable("ONLY"));
    let asked = |name: &str| only.is_empty() || only.split(',').any(|each| each == name);
    let run = Run { driver: &driver, target: &target, schema: &schema };
    run.connect().await?.exec(&format!("CREATE SCHEMA {schema}")).await?;
    for name in NAMES.split_whitespace().filter(|name| asked(name)) {
        let result = bounded(async {
            match driver.own(name, &run).await {
                Some(result) => result,
                None => shared::scenario(name, &run).await,
            }
        });
        say(name, result.await);
    }
    run.connect().await?.exec(&format!("DROP SCHEMA {schema} CASCADE")).await
}

/// The whole program.
pub fn main<D: Driver>(driver: D) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let local = tokio::task::LocalSet::new();
    let result = local.block_on(&runtime, run_all(driver));
    if let Err(error) = result {
        eprintln!("{} {}", error.message, error.code);
        std::process::exit(1);
    }
}

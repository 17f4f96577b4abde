//! The driver scenarios with tokio-postgres, and deadpool-postgres as its pool.

mod flows;
mod values;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::future::poll_fn;
use std::rc::Rc;

use native_tls::{Certificate, TlsConnector};
use pgsteer_drivers::{Driver, Error, Result, Rows, Run, Session, Target, failed, skip};
use postgres_native_tls::MakeTlsConnector;
use tokio::task::JoinHandle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, Notification, SimpleQueryMessage, Statement};

fn error(error: tokio_postgres::Error) -> Error {
    let Some(db) = error.as_db_error() else { return failed(error.to_string()) };
    let position = match db.position() {
        Some(tokio_postgres::error::ErrorPosition::Original(at)) => at.to_string(),
        _ => String::new(),
    };
    Error {
        message: db.message().into(),
        code: db.code().code().into(),
        detail: db.detail().unwrap_or_default().into(),
        table: db.table().unwrap_or_default().into(),
        constraint: db.constraint().unwrap_or_default().into(),
        position,
        skipped: false,
    }
}

fn configure(target: &Target) -> Config {
    let mut config = Config::new();
    config.host(&target.host).port(target.port).user(&target.user).password(&target.password).dbname(&target.database);
    config.ssl_mode(if target.tls { tokio_postgres::config::SslMode::Require } else { tokio_postgres::config::SslMode::Disable });
    if let Some(name) = &target.application_name {
        config.application_name(name);
    }
    let words: Vec<String> = target.options.iter().map(|(name, value)| format!("-c {name}={value}")).collect();
    if !words.is_empty() {
        config.options(words.join(" "));
    }
    config
}

fn tls(target: &Target) -> Result<MakeTlsConnector> {
    let pem = fs::read(&target.root_cert).map_err(|error| failed(error.to_string()))?;
    let connector = Certificate::from_pem(&pem)
        .and_then(|root| TlsConnector::builder().disable_built_in_roots(true).add_root_certificate(root).build());
    Ok(MakeTlsConnector::new(connector.map_err(|error| failed(error.to_string()))?))
}

/// What came without being asked for.
#[derive(Default)]
struct Heard {
    notices: Vec<String>,
    notifications: Vec<Notification>,
}

struct Connection {
    client: Client,
    statements: HashMap<String, Statement>,
    heard: Rc<RefCell<Heard>>,
    driving: JoinHandle<()>,
}

async fn open(target: &Target) -> Result<Connection> {
    let (client, mut connection) = configure(target).connect(tls(target)?).await.map_err(error)?;
    let heard = Rc::new(RefCell::new(Heard::default()));
    let hears = heard.clone();
    let driving = tokio::task::spawn_local(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            match message {
                AsyncMessage::Notice(notice) => hears.borrow_mut().notices.push(format!("{} {}", notice.severity(), notice.message())),
                AsyncMessage::Notification(notification) => hears.borrow_mut().notifications.push(notification),
                _ => {}
            }
        }
    });
    Ok(Connection { client, statements: HashMap::new(), heard, driving })
}

fn texts(messages: Vec<SimpleQueryMessage>) -> Rows {
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.map(|row| (0..row.len()).map(|i| row.get(i).unwrap_or("<null>").to_string()).collect()).collect()
}

impl Session for Connection {
    async fn rows(&mut self, sql: &str) -> Result<Rows> {
        self.client.simple_query(sql).await.map(texts).map_err(error)
    }

    async fn named(&mut self, sql: &str, args: &[i32]) -> Result<Vec<i32>> {
        if !self.statements.contains_key(sql) {
            let statement = self.client.prepare(sql).await.map_err(error)?;
            self.statements.insert(sql.into(), statement);
        }
        let args: Vec<&(dyn ToSql + Sync)> = args.iter().map(|each| each as _).collect();
        let rows = self.client.query(&self.statements[sql], &args).await.map_err(error)?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn unnamed(&mut self, sql: &str, args: &[i32]) -> Result<Vec<i32>> {
        let args: Vec<(&(dyn ToSql + Sync), Type)> = args.iter().map(|each| (each as _, Type::INT4)).collect();
        let rows = self.client.query_typed(sql, &args).await.map_err(error)?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// The driver closes what is dropped.
    async fn forget(&mut self) -> Result {
        self.statements.clear();
        Ok(())
    }

    async fn close(self) -> Result {
        drop(self.statements);
        drop(self.client);
        self.driving.await.map_err(|error| failed(error.to_string()))
    }

    async fn cut(self) {
        self.driving.abort();
        let _ = self.driving.await;
    }
}

struct TokioPostgres;

impl Driver for TokioPostgres {
    type Session = Connection;

    async fn connect(&self, target: &Target) -> Result<Connection> {
        open(target).await
    }

    async fn own(&self, name: &str, run: &Run<'_, Self>) -> Option<Result> {
        Some(match name {
            "simple_query" => values::simple_query(run).await,
            "multi_statement" => values::multi_statement(run).await,
            "extended_query" => values::extended_query(run).await,
            "parameters_null_and_arrays" => values::parameters(run).await,
            "binary_types" => values::binary_types(run).await,
            "pipeline" => flows::pipeline(run).await,
            "cursor_fetch_portal" => flows::portal(run).await,
            "copy_in" => flows::copy_in(run).await,
            "copy_out" => flows::copy_out(run).await,
            "copy_in_error" => flows::copy_in_error(run).await,
            "listen_notify" => flows::listen_notify(run).await,
            "cancel" => flows::cancel(run).await,
            "notices" => flows::notices(run).await,
            "savepoints" => flows::savepoints(run).await,
            "ssl" => flows::ssl(run).await,
            "pool" => flows::pool(run).await,
            "backend_pid" => skip("it does not tell the backend's pid"),
            _ => return None,
        })
    }
}

fn main() {
    pgsteer_drivers::main(TokioPostgres);
}

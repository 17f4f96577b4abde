//! Queries and values.

use chrono::{DateTime, NaiveDate, Utc};
use pgsteer_drivers::{Result, Run, Session, code, equal, failed};
use rust_decimal::Decimal;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::{FromSqlOwned, ToSql};
use uuid::Uuid;

use crate::{Connection, TokioPostgres, error};

type TestRun<'a> = Run<'a, TokioPostgres>;

pub async fn simple_query(run: &TestRun<'_>) -> Result {
    let mut s = run.connect().await?;
    equal("one", s.one("SELECT 1").await?, "1")?;
    equal("empty", s.rows("").await?.len(), 0_usize)?;
    equal("many", s.rows("SELECT generate_series(1, 2000)").await?.len(), 2000_usize)?;
    equal("null", s.one("SELECT NULL::text").await?, "<null>")?;
    equal("text", s.one("SELECT 'it''s \"quoted\" \\ and äöü€😀'").await?, "it's \"quoted\" \\ and äöü€😀")
}

pub async fn multi_statement(run: &TestRun<'_>) -> Result {
    let mut s = run.connect().await?;
    let messages = s.client.simple_query("SELECT 1; SELECT 2").await.map_err(error)?;
    let complete = messages.iter().filter(|message| matches!(message, SimpleQueryMessage::CommandComplete(_))).count();
    equal("results", complete, 2_usize)?;
    equal("rows", crate::texts(messages), vec![vec!["1"], vec!["2"]])?;
    let table = run.name("multi");
    s.exec(&format!("CREATE TABLE {table} (id int)")).await?;
    code("the second", s.rows(&format!("INSERT INTO {table} VALUES (1); SELECT 1/0")).await, "22012")?;
    equal("rows", s.one(&format!("SELECT count(*) FROM {table}")).await?, "0")
}

pub async fn extended_query(run: &TestRun<'_>) -> Result {
    let s = run.connect().await?;
    let row = s.client.query_one("SELECT $1::int4 + $2::int4, $3::text, $4::bool", &[&40, &2, &"a'b\\ä😀", &true]);
    let row = row.await.map_err(error)?;
    let got: (i32, String, bool) = (row.get(0), row.get(1), row.get(2));
    equal("row", got, (42, "a'b\\ä😀".to_string(), true))
}

async fn round_trip<T: ToSql + Sync + FromSqlOwned>(s: &Connection, sql_type: &str, value: &T) -> Result<T> {
    let row = s.client.query_one(&format!("SELECT $1::{sql_type}"), &[value]).await.map_err(error)?;
    row.try_get(0).map_err(error)
}

async fn same<T: ToSql + Sync + FromSqlOwned + PartialEq>(s: &Connection, sql_type: &str, value: T) -> Result {
    let got = round_trip(s, sql_type, &value).await?;
    if got == value { Ok(()) } else { Err(failed(format!("{sql_type} came back as {got:?}"))) }
}

pub async fn parameters(run: &TestRun<'_>) -> Result {
    let s = run.connect().await?;
    same(&s, "text", None::<String>).await?;
    same(&s, "text", String::new()).await?;
    same(&s, "int4[]", vec![1, -2, i32::MAX]).await?;
    same(&s, "int4[]", Vec::<i32>::new()).await?;
    same(&s, "text[]", vec![Some("a \"b\" {c}, \\d".to_string()), None]).await?;
    same(&s, "text", "äx".repeat(500_000)).await
}

pub async fn binary_types(run: &TestRun<'_>) -> Result {
    let s = run.connect().await?;
    same(&s, "int2", i16::MIN).await?;
    same(&s, "int4", i32::MIN).await?;
    same(&s, "int8", i64::MAX).await?;
    for number in [0.1, -1e300, f64::INFINITY] {
        same(&s, "float8", number).await?;
    }
    equal("NaN", round_trip(&s, "float8", &f64::NAN).await?.is_nan(), true)?;
    // As many digits as this type has.
    let number: Decimal = "1234567890123456789.123456789".parse().expect("a number");
    same(&s, "numeric", number).await?;
    same(&s, "bytea", (0..=255).collect::<Vec<u8>>()).await?;
    let moment: DateTime<Utc> = "2026-02-28T23:59:59.123456Z".parse().expect("a moment");
    same(&s, "timestamptz", moment).await?;
    same(&s, "date", NaiveDate::from_ymd_opt(2024, 2, 29).expect("a date")).await?;
    same(&s, "uuid", Uuid::from_bytes([7; 16])).await?;
    same(&s, "jsonb", serde_json::json!({ "a": [1.5, null, "ä"] })).await?;
    same(&s, "bool", true).await?;
    same(&s, "int8[]", vec![1, i64::MIN]).await?;
    same(&s, "float8[]", vec![0.5, f64::NEG_INFINITY]).await
}

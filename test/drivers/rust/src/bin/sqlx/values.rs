//! Queries and values.

use chrono::{DateTime, NaiveDate, Utc};
use pgsteer_drivers::{Result, Run, Session, code, equal, failed};
use rust_decimal::Decimal;
use sqlx::postgres::Postgres;
use sqlx::postgres::types::{PgInterval, PgRange};
use sqlx::{AssertSqlSafe, Decode, Encode, Type};
use uuid::Uuid;

use crate::{Connection, Sqlx, error};

type TestRun<'a> = Run<'a, Sqlx>;

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
    equal("rows", s.rows("SELECT 1; SELECT 2").await?, vec![vec!["1"], vec!["2"]])?;
    let table = run.name("multi");
    s.exec(&format!("CREATE TABLE {table} (id int)")).await?;
    code("the second", s.rows(&format!("INSERT INTO {table} VALUES (1); SELECT 1/0")).await, "22012")?;
    equal("rows", s.one(&format!("SELECT count(*) FROM {table}")).await?, "0")
}

pub async fn extended_query(run: &TestRun<'_>) -> Result {
    let mut s = run.connect().await?;
    let query = sqlx::query_as("SELECT $1::int4 + $2::int4, $3::text, $4::bool").bind(40).bind(2).bind("a'b\\ä😀").bind(true);
    let got: (i32, String, bool) = query.fetch_one(&mut s.0).await.map_err(error)?;
    equal("row", got, (42, "a'b\\ä😀".to_string(), true))
}

async fn round_trip<T>(s: &mut Connection, sql_type: &str, value: T) -> Result<T>
where
    T: Type<Postgres> + for<'q> Encode<'q, Postgres> + for<'r> Decode<'r, Postgres> + Send + Unpin + 'static,
{
    let query = sqlx::query_scalar(AssertSqlSafe(format!("SELECT $1::{sql_type}"))).bind(value);
    query.fetch_one(&mut s.0).await.map_err(error)
}

async fn same<T>(s: &mut Connection, sql_type: &str, value: T) -> Result
where
    T: Type<Postgres> + for<'q> Encode<'q, Postgres> + for<'r> Decode<'r, Postgres> + Send + Unpin + Clone + PartialEq + 'static,
{
    let got = round_trip(s, sql_type, value.clone()).await?;
    if got == value { Ok(()) } else { Err(failed(format!("{sql_type} came back changed"))) }
}

pub async fn parameters(run: &TestRun<'_>) -> Result {
    let s = &mut run.connect().await?;
    same(s, "text", None::<String>).await?;
    same(s, "text", String::new()).await?;
    same(s, "int4[]", vec![1, -2, i32::MAX]).await?;
    same(s, "int4[]", Vec::<i32>::new()).await?;
    same(s, "text[]", vec![Some("a \"b\" {c}, \\d".to_string()), None]).await?;
    same(s, "text", "äx".repeat(500_000)).await
}

pub async fn binary_types(run: &TestRun<'_>) -> Result {
    let s = &mut run.connect().await?;
    same(s, "int2", i16::MIN).await?;
    same(s, "int4", i32::MIN).await?;
    same(s, "int8", i64::MAX).await?;
    for number in [0.1, -1e300, f64::INFINITY] {
        same(s, "float8", number).await?;
    }
    equal("NaN", round_trip(s, "float8", f64::NAN).await?.is_nan(), true)?;
    // As many digits as this type has.
    let number: Decimal = "1234567890123456789.123456789".parse().expect("a number");
    same(s, "numeric", number).await?;
    same(s, "bytea", (0..=255).collect::<Vec<u8>>()).await?;
    let moment: DateTime<Utc> = "2026-02-28T23:59:59.123456Z".parse().expect("a moment");
    same(s, "timestamptz", moment).await?;
    same(s, "date", NaiveDate::from_ymd_opt(2024, 2, 29).expect("a date")).await?;
    same(s, "interval", PgInterval { months: 14, days: 2, microseconds: 1 }).await?;
    same(s, "uuid", Uuid::from_bytes([7; 16])).await?;
    same(s, "jsonb", serde_json::json!({ "a": [1.5, null, "ä"] })).await?;
    same(s, "bool", true).await?;
    same(s, "int8[]", vec![1, i64::MIN]).await?;
    same(s, "float8[]", vec![0.5, f64::NEG_INFINITY]).await?;
    same(s, "int4range", PgRange::from(1..9)).await
}

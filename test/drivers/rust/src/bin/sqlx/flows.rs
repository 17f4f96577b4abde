//! COPY, notifications, savepoints, TLS, and the pool.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use pgsteer_drivers::{Result, Run, Session, Target, code, equal, failed};
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, Executor};

use crate::{Sqlx, configure, error};

type TestRun<'a> = Run<'a, Sqlx>;

const COPIED: u64 = 20_000;

pub async fn copy_in(run: &TestRun<'_>) -> Result {
    let mut s = run.connect().await?;
    let table = run.name("copy_in");
    s.exec(&format!("CREATE TABLE {table} (id int, word text)")).await?;
    for count in [COPIED, 0] {
        let mut copy = s.0.copy_in_raw(&format!("COPY {table} FROM STDIN")).await.map_err(error)?;
        for first in (0..count).step_by(100) {
            let lines: String = (first..first + 100).map(|id| format!("{id}\tword {id}\n")).collect();
            copy.send(lines.into_bytes()).await.map_err(error)?;
        }
        equal("copied", copy.finish().await.map_err(error)?, count)?;
    }
    let sum = s.one(&format!("SELECT count(*) || ' ' || sum(id) FROM {table}")).await?;
    equal("sum", sum, format!("{COPIED} {}", COPIED * (COPIED - 1) / 2))
}

pub async fn copy_out(run: &TestRun<'_>) -> Result {
    let mut s = run.connect().await?;
    let copy = format!("COPY (SELECT n, 'word ' || n FROM generate_series(1, {COPIED}) n) TO STDOUT");
    let pieces: Vec<_> = s.0.copy_out_raw(&copy).await.map_err(error)?.try_collect().await.map_err(error)?;
    let text = String::from_utf8(pieces.concat()).map_err(|error| failed(error.to_string()))?;
    equal("lines", text.lines().count(), COPIED as usize)?;
    equal("the last", text.lines().last(), Some(format!("{COPIED}\tword {COPIED}").as_str()))
}

pub async fn copy_in_error(run: &TestRun<'_>) -> Result {
    let mut s = run.connect().await?;
    let table = run.name("copy_in_error");
    s.exec(&format!("CREATE TABLE {table} (id int, word text)")).await?;
    let statement = format!("COPY {table} FROM STDIN");
    let mut copy = s.0.copy_in_raw(&statement).await.map_err(error)?;
    copy.send(&b"1\ta\n2\tb\nthree\tc\n"[..]).await.map_err(error)?;
    for _ in 0..100 {
        if copy.send(b"4\td\n".repeat(200)).await.is_err() {
            break;
        }
    }
    code("bad row", copy.finish().await.map_err(error), "22P02 22P04")?;
    let mut aborted = s.0.copy_in_raw(&statement).await.map_err(error)?;
    aborted.send(&b"1\ta\n"[..]).await.map_err(error)?;
    // To abort is to succeed here.
    aborted.abort("no more").await.map_err(error)?;
    equal("rows", s.one(&format!("SELECT count(*) FROM {table}")).await?, "0")
}

pub async fn listen_notify(run: &TestRun<'_>) -> Result {
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(configure(run.target));
    let mut listener = PgListener::connect_with(&pool).await.map_err(error)?;
    let mut notifier = run.connect().await?;
    listener.listen(run.schema).await.map_err(error)?;
    notifier.exec("BEGIN").await?;
    notifier.exec(&format!("NOTIFY {}, 'the payload'", run.schema)).await?;
    let pid = notifier.one("SELECT pg_backend_pid()").await?;
    notifier.exec("COMMIT").await?;
    let got = listener.recv().await.map_err(error)?;
    equal("notification", (got.channel(), got.payload()), (run.schema, "the payload"))?;
    equal("its pid", got.process_id().to_string(), pid)?;
    listener.unlisten(run.schema).await.map_err(error)?;
    notifier.exec(&format!("NOTIFY {}, 'another'", run.schema)).await?;
    match tokio::time::timeout(Duration::from_millis(200), listener.recv()).await {
        Ok(_) => Err(failed("a notification after UNLISTEN")),
        Err(_) => Ok(()),
    }
}

pub async fn savepoints(run: &TestRun<'_>) -> Result {
    let mut s = run.connect().await?;
    let table = run.name("savepoints");
    s.exec(&format!("CREATE TABLE {table} (id int)")).await?;
    let insert = |id: i32| AssertSqlSafe(format!("INSERT INTO {table} VALUES ({id})"));
    let mut transaction = s.0.begin().await.map_err(error)?;
    (&mut *transaction).execute(insert(1)).await.map_err(error)?;
    let mut inner = transaction.begin().await.map_err(error)?;
    (&mut *inner).execute(insert(2)).await.map_err(error)?;
    code("inside", (&mut *inner).execute("SELECT 1/0").await.map_err(error), "22012")?;
    inner.rollback().await.map_err(error)?;
    let mut inner = transaction.begin().await.map_err(error)?;
    (&mut *inner).execute(insert(3)).await.map_err(error)?;
    inner.commit().await.map_err(error)?;
    transaction.commit().await.map_err(error)?;
    equal("rows", s.rows(&format!("SELECT id FROM {table} ORDER BY id")).await?, vec![vec!["1"], vec!["3"]])
}

pub async fn ssl(run: &TestRun<'_>) -> Result {
    for host in ["127.0.0.1", "localhost"] {
        let target = Target { tls: true, host: host.into(), ..run.target.clone() };
        // With VerifyFull the connection is encrypted or refused.
        let mut s = crate::open(&target).await?;
        equal("answer", s.one("SELECT 1").await?, "1")?;
    }
    Ok(())
}

/// The pool asks a connection for a sign of life before it lends it, and rolls back what was left open.
pub async fn pool(run: &TestRun<'_>) -> Result {
    let options = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(10));
    let pool = options.clone().connect_with(configure(run.target)).await.map_err(error)?;
    pool.execute("SET work_mem = '5MB'; CREATE TEMPORARY TABLE left_behind AS SELECT 7 AS id").await.map_err(error)?;
    {
        // Dropped: rolled back before the next one gets it.
        let mut transaction = pool.begin().await.map_err(error)?;
        (&mut *transaction).execute("DROP TABLE left_behind").await.map_err(error)?;
    }
    let left: i32 = sqlx::query_scalar("SELECT id FROM left_behind").fetch_one(&pool).await.map_err(error)?;
    equal("what is still there", left, 7)?;
    let memory: String = sqlx::query_scalar("SHOW work_mem").fetch_one(&pool).await.map_err(error)?;
    equal("what the last one set", memory, "5MB")?;
    pool.close().await;
    let pool = options.max_connections(3).connect_with(configure(run.target)).await.map_err(error)?;
    let asked = (0..60).map(|i| {
        let pool = &pool;
        async move {
            let sum: i32 = sqlx::query_scalar("SELECT $1::int4 + 1").bind(i).fetch_one(pool).await.map_err(error)?;
            equal("sum", sum, i + 1)
        }
    });
    let results: Vec<Result> = futures_util::stream::iter(asked).buffer_unordered(6).collect().await;
    pool.close().await;
    results.into_iter().collect()
}

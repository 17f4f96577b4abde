//! Pipelines, portals, COPY, notifications, cancel, TLS, and the pool.

use std::time::Duration;

use deadpool_postgres::{Manager, Pool};
use futures_util::{SinkExt, StreamExt, TryStreamExt, future, pin_mut};
use pgsteer_drivers::{Result, Run, Session, Target, code, equal, failed};
use tokio_postgres::NoTls;

use crate::{TokioPostgres, configure, error};

type TestRun<'a> = Run<'a, TokioPostgres>;

pub async fn pipeline(run: &TestRun<'_>) -> Result {
    let mut s = run.connect().await?;
    let double = s.client.prepare("SELECT $1::int4 * 2").await.map_err(error)?;
    let numbers: Vec<i32> = (0..100).collect();
    let asked = numbers.iter().map(|number| {
        let (client, double) = (&s.client, &double);
        async move { client.query_one(double, &[number]).await }
    });
    let rows = future::try_join_all(asked).await.map_err(error)?;
    for (number, row) in numbers.iter().zip(rows) {
        equal("doubled", row.get::<_, i32>(0), number * 2)?;
    }
    let divide = s.client.prepare("SELECT 10 / $1::int4").await.map_err(error)?;
    let (first, second, third) =
        future::join3(s.client.query_one(&divide, &[&1]), s.client.query_one(&divide, &[&0]), s.client.query_one(&divide, &[&2])).await;
    equal("the first", first.map_err(error)?.get::<_, i32>(0), 10)?;
    code("the second", second.map_err(error), "22012")?;
    equal("the third", third.map_err(error)?.get::<_, i32>(0), 5)?;
    equal("afterwards", s.one("SELECT 1").await?, "1")
}

pub async fn portal(run: &TestRun<'_>) -> Result {
    let mut s = run.connect().await?;
    let transaction = s.client.transaction().await.map_err(error)?;
    let portal = transaction.bind("SELECT generate_series(1, 1000)", &[]).await.map_err(error)?;
    for piece in 0..20 {
        let rows = transaction.query_portal(&portal, 50).await.map_err(error)?;
        equal("rows", rows.len(), 50_usize)?;
        equal("the first", rows[0].get::<_, i32>(0), piece * 50 + 1)?;
    }
    equal("the end", transaction.query_portal(&portal, 50).await.map_err(error)?.len(), 0_usize)?;
    transaction.commit().await.map_err(error)?;
    equal("afterwards", s.one("SELECT 1").await?, "1")
}

const COPIED: u64 = 20_000;

pub async fn copy_in(run: &TestRun<'_>) -> Result {
    let mut s = run.connect().await?;
    let table = run.name("copy_in");
    s.exec(&format!("CREATE TABLE {table} (id int, word text)")).await?;
    for count in [COPIED, 0] {
        let sink = s.client.copy_in(&format!("COPY {table} FROM STDIN")).await.map_err(error)?;
        pin_mut!(sink);
        for id in 0..count {
            sink.feed(std::io::Cursor::new(format!("{id}\tword {id}\n"))).await.map_err(error)?;
        }
        equal("copied", sink.finish().await.map_err(error)?, count)?;
    }
    let sum = s.one(&format!("SELECT count(*) || ' ' || sum(id) FROM {table}")).await?;
    equal("sum", sum, format!("{COPIED} {}", COPIED * (COPIED - 1) / 2))
}

pub async fn copy_out(run: &TestRun<'_>) -> Result {
    let s = run.connect().await?;
    let copy = format!("COPY (SELECT n, 'word ' || n FROM generate_series(1, {COPIED}) n) TO STDOUT");
    let pieces: Vec<_> = s.client.copy_out(&copy).await.map_err(error)?.try_collect().await.map_err(error)?;
    let text = String::from_utf8(pieces.concat()).map_err(|error| failed(error.to_string()))?;
    equal("lines", text.lines().count(), COPIED as usize)?;
    equal("the last", text.lines().last(), Some(format!("{COPIED}\tword {COPIED}").as_str()))
}

pub async fn copy_in_error(run: &TestRun<'_>) -> Result {
    let mut s = run.connect().await?;
    let table = run.name("copy_in_error");
    s.exec(&format!("CREATE TABLE {table} (id int, word text)")).await?;
    let copy = format!("COPY {table} FROM STDIN");
    {
        let sink = s.client.copy_in(&copy).await.map_err(error)?;
        pin_mut!(sink);
        let mut result = sink.send(&b"1\ta\n2\tb\nthree\tc\n"[..]).await;
        for _ in 0..COPIED {
            if result.is_ok() {
                result = sink.send(&b"4\td\n"[..]).await;
            }
        }
        // Whatever the sending said: the server's word is the last.
        code("bad row", sink.finish().await.map_err(error), "22P02 22P04")?;
        let aborted = s.client.copy_in(&copy).await.map_err(error)?;
        pin_mut!(aborted);
        aborted.send(&b"1\ta\n"[..]).await.map_err(error)?;
    }
    equal("rows", s.one(&format!("SELECT count(*) FROM {table}")).await?, "0")
}

pub async fn listen_notify(run: &TestRun<'_>) -> Result {
    let (mut listener, mut notifier) = (run.connect().await?, run.connect().await?);
    listener.exec(&format!("LISTEN {}", run.schema)).await?;
    notifier.exec("BEGIN").await?;
    notifier.exec(&format!("NOTIFY {}, 'the payload'", run.schema)).await?;
    let pid = notifier.one("SELECT pg_backend_pid()").await?;
    notifier.exec("COMMIT").await?;
    let heard = listener.heard.clone();
    while heard.borrow().notifications.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let got = heard.borrow_mut().notifications.remove(0);
    equal("notification", (got.channel(), got.payload()), (run.schema, "the payload"))?;
    equal("its pid", got.process_id().to_string(), pid)?;
    listener.exec("UNLISTEN *").await?;
    notifier.exec(&format!("NOTIFY {}, 'another'", run.schema)).await?;
    equal("afterwards", listener.one("SELECT 1").await?, "1")?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    equal("notifications after UNLISTEN", heard.borrow().notifications.len(), 0_usize)
}

pub async fn cancel(run: &TestRun<'_>) -> Result {
    let (mut s, mut watcher) = (run.connect().await?, run.connect().await?);
    let token = s.client.cancel_token();
    let sleep = format!("SELECT pg_sleep(15) /* {} */", run.schema);
    let stop = async {
        let running = format!("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = '{sleep}'");
        while watcher.one(&running).await? == "0" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        token.cancel_query(NoTls).await.map_err(error)
    };
    let (result, stopped) = future::join(s.rows(&sleep), stop).await;
    stopped?;
    code("canceled", result, "57014")?;
    equal("afterwards", s.one("SELECT 1").await?, "1")
}

pub async fn notices(run: &TestRun<'_>) -> Result {
    let mut s = run.connect().await?;
    s.exec("DO $$BEGIN RAISE NOTICE 'first'; RAISE WARNING 'second'; END$$").await?;
    let notices = s.heard.borrow().notices.join(", ");
    equal("notices", notices, "NOTICE first, WARNING second")
}

pub async fn savepoints(run: &TestRun<'_>) -> Result {
    let mut s = run.connect().await?;
    let table = run.name("savepoints");
    s.exec(&format!("CREATE TABLE {table} (id int)")).await?;
    let mut transaction = s.client.transaction().await.map_err(error)?;
    let insert = format!("INSERT INTO {table} VALUES ($1)");
    transaction.execute(&insert, &[&1]).await.map_err(error)?;
    let inner = transaction.transaction().await.map_err(error)?;
    inner.execute(&insert, &[&2]).await.map_err(error)?;
    code("inside", inner.batch_execute("SELECT 1/0").await.map_err(error), "22012")?;
    inner.rollback().await.map_err(error)?;
    let inner = transaction.savepoint("again").await.map_err(error)?;
    inner.execute(&insert, &[&3]).await.map_err(error)?;
    inner.commit().await.map_err(error)?;
    transaction.commit().await.map_err(error)?;
    equal("rows", s.rows(&format!("SELECT id FROM {table} ORDER BY id")).await?, vec![vec!["1"], vec!["3"]])
}

pub async fn ssl(run: &TestRun<'_>) -> Result {
    for host in ["127.0.0.1", "localhost"] {
        let target = Target { tls: true, host: host.into(), ..run.target.clone() };
        // With SslMode::Require the connection is encrypted or refused.
        let mut s = crate::open(&target).await?;
        equal("answer", s.one("SELECT 1").await?, "1")?;
    }
    let target = Target { tls: true, root_cert: "/etc/ssl/certs/ca-certificates.crt".into(), ..run.target.clone() };
    if crate::open(&target).await.is_ok() { Err(failed("a stranger's certificate was accepted")) } else { Ok(()) }
}

/// deadpool recycles without a word, and caches statements by connection.
pub async fn pool(run: &TestRun<'_>) -> Result {
    let manager = Manager::new(configure(run.target), NoTls);
    let pool = Pool::builder(manager).max_size(3).build().map_err(|error| failed(error.to_string()))?;
    let get = || async { pool.get().await.map_err(|error| failed(error.to_string())) };
    {
        let client = get().await?;
        client.batch_execute("SET work_mem = '5MB'; CREATE TEMPORARY TABLE left_behind AS SELECT 7 AS id").await.map_err(error)?;
    }
    {
        let mut client = get().await?;
        let left = client.query_one("SELECT id FROM left_behind", &[]).await.map_err(error)?;
        equal("what the last one made", left.get::<_, i32>(0), 7)?;
        // Left without a word: the driver sends the ROLLBACK.
        let transaction = client.transaction().await.map_err(error)?;
        transaction.batch_execute("DROP TABLE left_behind").await.map_err(error)?;
    }
    let client = get().await?;
    let left = client.query_one("SELECT id FROM left_behind", &[]).await.map_err(error)?;
    equal("what is still there", left.get::<_, i32>(0), 7)?;
    client.batch_execute("DISCARD ALL").await.map_err(error)?;
    drop(client);
    let asked = (0..60).map(|i| {
        let get = &get;
        async move {
            let client = get().await?;
            let statement = client.prepare_cached("SELECT $1::int4 + 1").await.map_err(error)?;
            let row = client.query_one(&statement, &[&i]).await.map_err(error)?;
            equal("sum", row.get::<_, i32>(0), i + 1)
        }
    });
    let results: Vec<Result> = futures_util::stream::iter(asked).buffer_unordered(6).collect().await;
    results.into_iter().collect()
}

//! Scenarios that all drivers share: statements, transactions, errors, connections.

use crate::state;
use crate::{Driver, Result, Run, Session, Target, code, equal, failed, skip};

/// Runs the scenario of that name.
pub async fn scenario<D: Driver>(name: &str, run: &Run<'_, D>) -> Result {
    match name {
        "named_prepared" => named_prepared(run).await,
        "unnamed_prepared" => unnamed_prepared(run).await,
        "prepared_after_ddl" => prepared_after_ddl(run).await,
        "prepared_many" => prepared_many(run).await,
        "cursor" => cursor(run).await,
        "errors" => errors(run).await,
        "error_in_transaction" => error_in_transaction(run).await,
        "set_show" => state::set_show(run).await,
        "set_local" => state::set_local(run).await,
        "startup_options" => state::startup_options(run).await,
        "temp_tables" => state::temp_tables(run).await,
        "advisory_locks" => state::advisory_locks(run).await,
        "with_hold_cursor" => state::with_hold_cursor(run).await,
        "sql_prepare" => state::sql_prepare(run).await,
        "isolation_levels" => isolation_levels(run).await,
        "read_only_session" => read_only_session(run).await,
        "two_phase" => two_phase(run).await,
        "reconnect" => reconnect(run).await,
        "wrong_password" => {
            let target = Target { password: "not this".into(), ..run.target.clone() };
            code("wrong password", run.driver.connect(&target).await, "28P01").map(|_| ())
        }
        "unknown_database" => {
            let target = Target { database: "there_is_no_such_database".into(), ..run.target.clone() };
            code("unknown database", run.driver.connect(&target).await, "3D000").map(|_| ())
        }
        "concurrency" => concurrency(run).await,
        "close_midway" => close_midway(run).await,
        "orm_schema" => skip("a driver, not an ORM"),
        _ => skip("it has no interface for this"),
    }
}

/// In every second turn `other` holds, in a transaction, the server that was used last: what follows comes to another one.
pub async fn hold(other: &mut impl Session, turn: i32) -> Result {
    if turn % 2 == 0 {
        other.exec("BEGIN").await?;
        equal("the other", other.one("SELECT 1").await?, "1")?;
    }
    Ok(())
}

pub async fn let_go(other: &mut impl Session, turn: i32) -> Result {
    if turn % 2 == 0 { other.exec("COMMIT").await } else { Ok(()) }
}

async fn named_prepared<D: Driver>(run: &Run<'_, D>) -> Result {
    let (mut s, mut other) = (run.connect().await?, run.connect().await?);
    for turn in 0..20 {
        hold(&mut other, turn).await?;
        equal("sum", s.named("SELECT $1::int4 + 1", &[turn]).await?, vec![turn + 1])?;
        let_go(&mut other, turn).await?;
    }
    s.forget().await?;
    equal("prepared again", s.named("SELECT $1::int4 + 1", &[1]).await?, vec![2])
}

async fn unnamed_prepared<D: Driver>(run: &Run<'_, D>) -> Result {
    let (mut s, mut other) = (run.connect().await?, run.connect().await?);
    for turn in 0..20 {
        hold(&mut other, turn).await?;
        equal("mine", s.unnamed(&format!("SELECT $1::int4 + {turn}"), &[1]).await?, vec![turn + 1])?;
        equal("the other's", other.unnamed(&format!("SELECT {turn} - $1::int4"), &[1]).await?, vec![turn - 1])?;
        let_go(&mut other, turn).await?;
    }
    Ok(())
}

async fn prepared_after_ddl<D: Driver>(run: &Run<'_, D>) -> Result {
    let (mut s, mut other) = (run.connect().await?, run.connect().await?);
    let table = run.name("after_ddl");
    s.exec(&format!("CREATE TABLE {table} (a int); INSERT INTO {table} VALUES (1)")).await?;
    let star = format!("SELECT * FROM {table}");
    equal("before", s.named(&star, &[]).await?, vec![1])?;
    // At first elsewhere, where a router may have to prepare it anew: that must not change what the driver expects of it.
    other.exec(&format!("ALTER TABLE {table} ADD COLUMN b int DEFAULT 2")).await?;
    for turn in 0..6 {
        hold(&mut other, turn).await?;
        let mut rows = s.named(&star, &[]).await;
        if rows.is_err() {
            code("after the change", rows, "0A000")?;
            s.forget().await?;
            rows = s.named(&star, &[]).await;
        }
        equal("after", rows?, vec![1])?;
        let_go(&mut other, turn).await?;
    }
    Ok(())
}

async fn prepared_many<D: Driver>(run: &Run<'_, D>) -> Result {
    let (mut s, mut other) = (run.connect().await?, run.connect().await?);
    for count in [300, 20] {
        for i in 0..count {
            equal("sum", s.named(&format!("SELECT $1::int4 + {i}"), &[1]).await?, vec![i + 1])?;
        }
    }
    hold(&mut other, 0).await?;
    equal("elsewhere", s.named("SELECT $1::int4 + 0", &[1]).await?, vec![1])?;
    let_go(&mut other, 0).await
}

async fn cursor<D: Driver>(run: &Run<'_, D>) -> Result {
    let mut s = run.connect().await?;
    s.exec("BEGIN").await?;
    s.exec("DECLARE c CURSOR FOR SELECT generate_series(1, 1000)").await?;
    for piece in 0..5 {
        let rows = s.rows("FETCH 100 FROM c").await?;
        equal("rows", rows.len(), 100_usize)?;
        equal("first of the piece", &rows[0][0], &format!("{}", piece * 100 + 1))?;
    }
    s.exec("CLOSE c").await?;
    s.exec("COMMIT").await?;
    equal("afterwards", s.one("SELECT 1").await?, "1")
}

async fn errors<D: Driver>(run: &Run<'_, D>) -> Result {
    let mut s = run.connect().await?;
    let table = run.name("errors");
    s.exec(&format!("CREATE TABLE {table} (id int CONSTRAINT errors_only_once UNIQUE)")).await?;
    let insert = format!("INSERT INTO {table} VALUES ($1) RETURNING id");
    s.unnamed(&insert, &[1]).await?;
    let error = code("duplicate", s.unnamed(&insert, &[1]).await, "23505")?;
    equal("constraint", error.constraint, "errors_only_once")?;
    equal("table", error.table, "errors")?;
    equal("detail", error.detail, "Key (id)=(1) already exists.")?;
    let error = code("syntax", s.rows("SELECT 1 FORM nothing").await, "42601")?;
    equal("position", error.position, "15")?;
    code("division", s.unnamed("SELECT 1 / $1::int4", &[0]).await, "22012")?;
    equal("afterwards", s.one("SELECT 1").await?, "1")
}

async fn error_in_transaction<D: Driver>(run: &Run<'_, D>) -> Result {
    let mut s = run.connect().await?;
    let table = run.name("aborted");
    s.exec(&format!("CREATE TABLE {table} (id int)")).await?;
    for end in ["ROLLBACK", "COMMIT"] {
        s.exec("BEGIN").await?;
        s.exec(&format!("INSERT INTO {table} VALUES (1)")).await?;
        code("the error", s.rows("SELECT 1/0").await, "22012")?;
        code("what follows", s.rows("SELECT 1").await, "25P02")?;
        s.exec(end).await?;
    }
    equal("rows", s.one(&format!("SELECT count(*) FROM {table}")).await?, "0")
}

async fn isolation_levels<D: Driver>(run: &Run<'_, D>) -> Result {
    let (mut s, mut other) = (run.connect().await?, run.connect().await?);
    s.exec("BEGIN ISOLATION LEVEL SERIALIZABLE").await?;
    equal("in the transaction", s.one("SHOW transaction_isolation").await?, "serializable")?;
    s.exec("COMMIT").await?;
    s.exec("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
    for turn in 0..4 {
        hold(&mut other, turn).await?;
        s.exec("BEGIN").await?;
        equal("in the session", s.one("SHOW transaction_isolation").await?, "repeatable read")?;
        s.exec("COMMIT").await?;
        let_go(&mut other, turn).await?;
    }
    equal("the other's", other.one("SHOW transaction_isolation").await?, "read committed")
}

async fn read_only_session<D: Driver>(run: &Run<'_, D>) -> Result {
    let (mut s, mut other) = (run.connect().await?, run.connect().await?);
    let table = run.name("read_only");
    s.exec(&format!("CREATE TABLE {table} (id int)")).await?;
    let insert = format!("INSERT INTO {table} VALUES (1)");
    s.exec("SET default_transaction_read_only = on").await?;
    for turn in 0..4 {
        hold(&mut other, turn).await?;
        code("in a read-only session", s.rows(&insert).await, "25006")?;
        let_go(&mut other, turn).await?;
    }
    other.exec(&insert).await?;
    s.exec("SET default_transaction_read_only = off").await?;
    s.exec(&insert).await?;
    other.exec(&insert).await
}

async fn two_phase<D: Driver>(run: &Run<'_, D>) -> Result {
    let (mut s, mut other) = (run.connect().await?, run.connect().await?);
    if s.one("SHOW max_prepared_transactions").await? == "0" {
        return skip("max_prepared_transactions is 0");
    }
    let (table, name) = (run.name("two_phase"), format!("{}_two", run.schema));
    s.exec(&format!("CREATE TABLE {table} (id int)")).await?;
    s.exec("BEGIN").await?;
    s.exec(&format!("INSERT INTO {table} VALUES (1)")).await?;
    s.exec(&format!("PREPARE TRANSACTION '{name}'")).await?;
    let count = format!("SELECT count(*) FROM {table}");
    equal("before", s.one(&count).await?, "0")?;
    other.exec(&format!("COMMIT PREPARED '{name}'")).await?;
    equal("after", s.one(&count).await?, "1")
}

async fn reconnect<D: Driver>(run: &Run<'_, D>) -> Result {
    let mut s = run.connect().await?;
    match s.rows("SELECT pg_terminate_backend(pg_backend_pid())").await {
        Ok(_) => return Err(failed("terminated without an error")),
        Err(error) if error.code.is_empty() || error.code == "57P01" => {}
        Err(error) => return Err(error),
    }
    equal("a new connection", run.connect().await?.one("SELECT 1").await?, "1")
}

const WORKERS: i32 = 20;
const ROUNDS: i32 = 50;

async fn concurrency<D: Driver>(run: &Run<'_, D>) -> Result {
    let table = run.name("concurrency");
    let mut s = run.connect().await?;
    s.exec(&format!("CREATE TABLE {table} (worker int PRIMARY KEY, total int NOT NULL)")).await?;
    s.exec(&format!("INSERT INTO {table} SELECT n, 0 FROM generate_series(0, {}) n", WORKERS - 1)).await?;
    s.close().await?;
    let workers = (0..WORKERS).map(|worker| work(run, &table, worker));
    futures_util::future::try_join_all(workers).await?;
    let rows = run.connect().await?.rows(&format!("SELECT worker, total FROM {table} ORDER BY worker")).await?;
    for (worker, row) in (0..WORKERS).zip(rows) {
        let total = worker * ROUNDS + ROUNDS * (ROUNDS - 1) / 2;
        equal("sum", row, vec![worker.to_string(), total.to_string()])?;
    }
    Ok(())
}

async fn work<D: Driver>(run: &Run<'_, D>, table: &str, worker: i32) -> Result {
    let mut s = run.connect().await?;
    let mut total = 0;
    for round in 0..ROUNDS {
        total += worker + round;
        s.exec("BEGIN").await?;
        let update = format!("UPDATE {table} SET total = total + $2 WHERE worker = $1 RETURNING total");
        equal("updated", s.named(&update, &[worker, worker + round]).await?, vec![total])?;
        let select = format!("SELECT total FROM {table} WHERE worker = $1");
        equal("total", s.named(&select, &[worker]).await?, vec![total])?;
        equal("echo", s.unnamed("SELECT $1::int4 * 1000 + $2::int4", &[worker, round]).await?, vec![worker * 1000 + round])?;
        s.exec("COMMIT").await?;
    }
    s.close().await
}

async fn close_midway<D: Driver>(run: &Run<'_, D>) -> Result {
    let (mut s, mut other) = (run.connect().await?, run.connect().await?);
    let table = run.name("midway");
    s.exec(&format!("CREATE TABLE {table} (id int)")).await?;
    s.exec("BEGIN").await?;
    s.exec(&format!("INSERT INTO {table} VALUES (1)")).await?;
    s.exec(&format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")).await?;
    s.cut().await;
    other.exec("SET lock_timeout = '10s'").await?;
    equal("rows", other.one(&format!("SELECT count(*) FROM {table}")).await?, "0")
}

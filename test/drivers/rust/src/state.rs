//! Scenarios that all drivers share: what a session keeps between its transactions.

use crate::shared::{hold, let_go};
use crate::{Driver, Result, Run, Session, Target, code, equal, failed};

pub async fn set_show<D: Driver>(run: &Run<'_, D>) -> Result {
    let path = format!("{}, public", run.schema);
    let values = [
        [("search_path", path.as_str()), ("timezone", "'Europe/Vienna'"), ("work_mem", "'5MB'")],
        [("search_path", "public"), ("timezone", "'Asia/Tokyo'"), ("work_mem", "'7MB'")],
    ];
    let mut sessions = [run.connect().await?, run.connect().await?];
    for (session, values) in sessions.iter_mut().zip(values) {
        for (name, value) in values {
            session.exec(&format!("SET {name} = {value}")).await?;
        }
    }
    for turn in 0..20 {
        let i = turn % 2;
        let holds = turn % 4 < 2;
        if holds {
            sessions[1 - i].exec("BEGIN").await?;
            check(&mut sessions[1 - i], &values[1 - i]).await?;
        }
        check(&mut sessions[i], &values[i]).await?;
        if holds {
            sessions[1 - i].exec("COMMIT").await?;
        }
    }
    Ok(())
}

async fn check(session: &mut impl Session, values: &[(&str, &str)]) -> Result {
    for (name, value) in values {
        equal(name, session.one(&format!("SHOW {name}")).await?, value.trim_matches('\''))?;
    }
    Ok(())
}

pub async fn set_local<D: Driver>(run: &Run<'_, D>) -> Result {
    let (mut s, mut other) = (run.connect().await?, run.connect().await?);
    let before = s.one("SHOW work_mem").await?;
    s.exec("BEGIN").await?;
    s.exec("SET LOCAL work_mem = '9MB'").await?;
    equal("in the transaction", s.one("SHOW work_mem").await?, "9MB")?;
    s.exec("COMMIT").await?;
    for turn in 0..4 {
        hold(&mut other, turn).await?;
        equal("in the next", s.one("SHOW work_mem").await?, before.as_str())?;
        let_go(&mut other, turn).await?;
    }
    equal("the other's", other.one("SHOW work_mem").await?, before.as_str())
}

pub async fn startup_options<D: Driver>(run: &Run<'_, D>) -> Result {
    let wanted = [
        ("application_name", "drivers' own"),
        ("search_path", run.schema),
        ("statement_timeout", "1234ms"),
        ("timezone", run.driver.timezone()),
    ];
    let options = wanted[1..].iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let target = Target { application_name: Some(wanted[0].1.into()), options, ..run.target.clone() };
    let (mut s, mut other) = (run.driver.connect(&target).await?, run.connect().await?);
    for turn in 0..4 {
        hold(&mut other, turn).await?;
        s.exec("BEGIN").await?;
        check(&mut s, &wanted).await?;
        s.exec("COMMIT").await?;
        let_go(&mut other, turn).await?;
    }
    let others =
        [("application_name", "'other'"), ("search_path", "'other'"), ("statement_timeout", "'5s'"), ("timezone", "'Europe/Vienna'")];
    for (name, value) in others {
        s.exec(&format!("SET {name} = {value}")).await?;
    }
    hold(&mut other, 0).await?;
    check(&mut s, &others).await?;
    let_go(&mut other, 0).await?;
    for (name, _) in wanted {
        s.exec(&format!("RESET {name}")).await?;
    }
    for turn in 0..4 {
        hold(&mut other, turn).await?;
        check(&mut s, &wanted).await?;
        let_go(&mut other, turn).await?;
    }
    s.exec("SET statement_timeout = '100ms'").await?;
    code("statement_timeout", s.rows("SELECT pg_sleep(10)").await, "57014")?;
    let foreign = other.one("SHOW search_path").await? == run.schema;
    if foreign { Err(failed("another connection has these settings too")) } else { Ok(()) }
}

pub async fn temp_tables<D: Driver>(run: &Run<'_, D>) -> Result {
    let mut sessions = [run.connect().await?, run.connect().await?];
    for (i, s) in sessions.iter_mut().enumerate() {
        s.exec(&format!("CREATE TEMPORARY TABLE mine (id int); INSERT INTO mine VALUES ({i})")).await?;
    }
    for _ in 0..3 {
        for (i, s) in sessions.iter_mut().enumerate() {
            equal("row", s.one("SELECT id FROM mine").await?, format!("{i}"))?;
        }
    }
    sessions[0].exec("DROP TABLE mine").await?;
    equal("the other's", sessions[1].one("SELECT id FROM mine").await?, "1")
}

pub async fn advisory_locks<D: Driver>(run: &Run<'_, D>) -> Result {
    let (mut a, mut b) = (run.connect().await?, run.connect().await?);
    let key = a.one(&format!("SELECT hashtext('{}')", run.schema)).await?;
    a.exec(&format!("SELECT pg_advisory_lock({key})")).await?;
    let attempt = format!("SELECT pg_try_advisory_lock({key})::text");
    for _ in 0..4 {
        equal("the other tries", b.one(&attempt).await?, "false")?;
        equal("its own transaction", a.one("SELECT 1").await?, "1")?;
    }
    let unlock = format!("SELECT pg_advisory_unlock({key})::text");
    equal("unlocked", a.one(&unlock).await?, "true")?;
    equal("the other tries again", b.one(&attempt).await?, "true")?;
    equal("and unlocks", b.one(&unlock).await?, "true")
}

pub async fn with_hold_cursor<D: Driver>(run: &Run<'_, D>) -> Result {
    let (mut s, mut other) = (run.connect().await?, run.connect().await?);
    s.exec("BEGIN").await?;
    s.exec("DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 100)").await?;
    s.exec("COMMIT").await?;
    for turn in 0..4 {
        hold(&mut other, turn).await?;
        let rows = s.rows("FETCH 10 FROM held").await?;
        equal("rows", rows.len(), 10_usize)?;
        equal("first", &rows[0][0], &format!("{}", turn * 10 + 1))?;
        let_go(&mut other, turn).await?;
    }
    s.exec("CLOSE held").await?;
    code("closed", s.rows("FETCH 1 FROM held").await, "34000").map(|_| ())
}

pub async fn sql_prepare<D: Driver>(run: &Run<'_, D>) -> Result {
    let (mut s, mut other) = (run.connect().await?, run.connect().await?);
    s.exec("PREPARE by_sql(int) AS SELECT $1 + 1").await?;
    for turn in 0..6 {
        hold(&mut other, turn).await?;
        equal("executed", s.one(&format!("EXECUTE by_sql({turn})")).await?, format!("{}", turn + 1))?;
        let_go(&mut other, turn).await?;
    }
    code("the other's", other.rows("EXECUTE by_sql(1)").await, "26000")?;
    s.exec("DEALLOCATE by_sql").await?;
    code("deallocated", s.rows("EXECUTE by_sql(1)").await, "26000").map(|_| ())
}

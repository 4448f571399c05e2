//! Rows that were changed, added or taken away, by someone who keeps the database well-formed.

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::books::{As, Books, anchored};
use super::{Must, Tally};
use crate::common::config;

/// Columns that no link of the chain covers: how often a refusal repeated, when last, and what counts as the same.
const UNCHAINED: [&str; 3] = ["audit.at", "audit.count", "audit.repeats"];

/// Statements that an adversary, or a careless hand, would try.
const STATEMENTS: [&str; 14] = [
    "UPDATE lots SET quota = quota + 1",
    "UPDATE lots SET issued = issued - 1",
    "UPDATE lots SET revoked = 1",
    "DELETE FROM installs WHERE state = 'reserved'",
    "DELETE FROM tickets",
    "DELETE FROM receipts",
    "DELETE FROM audit WHERE id = 1",
    "INSERT INTO audit (at, event, detail) VALUES (0, 'nothing', '')",
    "INSERT INTO lot_stations SELECT name, randomblob(32) FROM lots",
    "DELETE FROM chain WHERE sequence = (SELECT max(sequence) FROM chain)",
    "DELETE FROM chain WHERE sequence = 2",
    "DELETE FROM chain",
    "UPDATE chain SET entries = zeroblob(length(entries)) WHERE sequence = 3",
    "DROP INDEX installs_of_lot",
];

async fn open(folder: &std::path::Path) -> SqliteConnection {
    let path = config(folder).data.join("authority.db");
    let options = SqliteConnectOptions::new().filename(path).foreign_keys(false);
    SqliteConnection::connect_with(&options).await.unwrap()
}

/// Changes every column of every table, one at a time, and runs the statements.
pub(super) async fn rows_that_were_changed(tally: &mut Tally, books: &Books) {
    let mut statements: Vec<(String, Must)> =
        STATEMENTS.iter().map(|sql| ((*sql).to_owned(), Must::Refuse)).collect();
    for (table, column, kind) in columns(books).await {
        let name = format!("{table}.{column}");
        let other = match kind.as_str() {
            "INTEGER" => format!("{column} + 1000003"),
            "BLOB" => format!("randomblob(max(length({column}), 16))"),
            _ => format!("{column} || 'x'"),
        };
        let row = format!("rowid = (SELECT rowid FROM {table} WHERE {column} IS NOT NULL LIMIT 1)");
        let first = format!("{column} = (SELECT {column} FROM {table} WHERE {column} IS NOT NULL LIMIT 1)");
        let which = if ["keys", "delegations", "lot_stations", "lot_dies"].contains(&table.as_str()) {
            first
        } else {
            row
        };
        let must = if UNCHAINED.contains(&name.as_str()) { Must::RefuseOrHold } else { Must::Refuse };
        statements.push((format!("UPDATE {table} SET {column} = {other} WHERE {which}"), must));
    }
    let mut done = 0;
    for (sql, must) in statements {
        let folder = books.lay(As::Closed);
        let mut connection = open(folder.path()).await;
        sqlx::query("PRAGMA ignore_check_constraints = 1").execute(&mut connection).await.unwrap();
        let changed = sqlx::query(AssertSqlSafe(sql.as_str())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        if changed.rows_affected() == 0 && !sql.starts_with("DROP") {
            continue;
        }
        done += 1;
        let verdict = books.judge(anchored(folder.path()), &[]).await;
        tally.take("edited", &sql, must, verdict);
    }
    assert!(done >= 50, "only {done} edits changed anything");
}

/// Lists every column: table, name, type.
async fn columns(books: &Books) -> Vec<(String, String, String)> {
    let folder = books.lay(As::Closed);
    let mut connection = open(folder.path()).await;
    let sql = "SELECT t.name, c.name, c.type FROM sqlite_schema t, pragma_table_info(t.name) c
        WHERE t.type = 'table' AND t.name NOT LIKE '\\_%' ESCAPE '\\'";
    let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

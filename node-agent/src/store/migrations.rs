//! Numbered steps that bring an older state database up to date.
//!
//! Start reading at [`run`]. Each step runs once, in a transaction of its own together with the number that says so; a
//! crash in between repeats the step. Steps are never edited after a release, only added.

use std::sync::Arc;

use redb::{Database, ReadableTable as _, WriteTransaction};

use super::{StoreError, definition};

const META: &str = "meta";
const SCHEMA: &str = "schema";

/// One step from the schema before it. It may open any table.
type Step = fn(&WriteTransaction) -> Result<(), redb::Error>;

/// Step n (counted from 1) leads to schema n.
const STEPS: &[Step] = &[
    // 1: the first schema; tables appear when something is put into them.
    |_| Ok(()),
];

/// Runs the steps that the file has not seen yet.
pub(super) fn run(database: &Database) -> Result<(), StoreError> {
    let known = u32::try_from(STEPS.len()).unwrap_or(u32::MAX);
    let failed = |source: redb::Error| StoreError::Commit(Arc::new(source));
    let found = read_schema(database).map_err(failed)?;
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for (number, step) in (1u32..).zip(STEPS).filter(|(number, _)| *number > found) {
        run_step(database, number, *step).map_err(failed)?;
    }
    Ok(())
}

fn run_step(database: &Database, number: u32, step: Step) -> Result<(), redb::Error> {
    let writing = database.begin_write()?;
    step(&writing)?;
    writing.open_table(definition(META))?.insert(SCHEMA, number.to_be_bytes().as_slice())?;
    writing.commit()?;
    Ok(())
}

fn read_schema(database: &Database) -> Result<u32, redb::Error> {
    // A write transaction, because it makes the table when there is none.
    let writing = database.begin_write()?;
    let found = writing
        .open_table(definition(META))?
        .get(SCHEMA)?
        .and_then(|value| value.value().try_into().ok())
        .map_or(0, u32::from_be_bytes);
    writing.commit()?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_ends_at_the_newest_schema() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::create(dir.path().join("x")).unwrap();
        run(&database).unwrap();
        assert_eq!(read_schema(&database).unwrap() as usize, STEPS.len());
        run(&database).unwrap();
    }

    #[test]
    fn a_file_of_a_newer_program_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::create(dir.path().join("x")).unwrap();
        run_step(&database, 99, |_| Ok(())).unwrap();
        assert!(matches!(run(&database), Err(StoreError::TooNew { found: 99, .. })));
    }
}

//! A digest over all rows of a snapshot, in their order: taken where they are read from one store and where they are given to another, so
//! that whatever happens to them in between is seen (ADR 0085). Against faults, not attackers. Not here: chunks and their own checksums (`chunk`).

use xxhash_rust::xxh3::Xxh3;

use super::contract::Table;

#[derive(Default)]
pub(super) struct RowsDigest(Xxh3);

impl RowsDigest {
    pub(super) fn row(&mut self, table: Table, key: &[u8], value: &[u8]) {
        let table = match table {
            Table::Blocks => 1_u8,
            Table::Rows => 2,
        };
        let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.0.update(&[table]);
        self.0.update(&length(key).to_be_bytes());
        self.0.update(&length(value).to_be_bytes());
        self.0.update(key);
        self.0.update(value);
    }

    pub(super) fn value(&self) -> u128 {
        self.0.digest128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[(Table, &str, &str)]) -> u128 {
        let mut digest = RowsDigest::default();
        for (table, key, value) in rows {
            digest.row(*table, key.as_bytes(), value.as_bytes());
        }
        digest.value()
    }

    #[test]
    fn other_rows_have_another_digest() {
        let rows = [(Table::Blocks, "a", "bc"), (Table::Rows, "d", "")];
        let others: [&[(Table, &str, &str)]; 6] = [
            &[],
            &[(Table::Blocks, "a", "bc")],
            &[(Table::Rows, "d", ""), (Table::Blocks, "a", "bc")],
            &[(Table::Blocks, "ab", "c"), (Table::Rows, "d", "")],
            &[(Table::Rows, "a", "bc"), (Table::Rows, "d", "")],
            &[(Table::Blocks, "a", "bb"), (Table::Rows, "d", "")],
        ];
        for other in others {
            assert_ne!(of(&rows), of(other), "{other:?}");
        }
    }
}

//! openraft's own tests of a store.

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::*;

struct Stores;

impl StoreBuilder<TypeConfig, Store, Machine, TempDir> for Stores {
    async fn build(&self) -> Result<(TempDir, Store, Machine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        let machine = Machine::new(Arc::new(store.clone())).unwrap();
        Ok((dir, store, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_storage_suite_passes() {
    Suite::test_all(Stores).await.unwrap();
}

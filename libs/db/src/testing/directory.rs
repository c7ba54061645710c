//! A directory that knows what it is told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use rowhouse_context::Ctx;
use rowhouse_types::TenantId;

use crate::home::{Directory, DirectoryError, Home};

/// A directory that knows what it is told: for tests.
#[derive(Debug, Default)]
pub struct StaticDirectory {
    homes: Mutex<HashMap<TenantId, Answers>>,
    fresh_asked: AtomicUsize,
}

#[derive(Clone, Debug)]
struct Answers {
    cached: Home,
    fresh: Home,
}

// === impl StaticDirectory ===

impl StaticDirectory {
    /// A directory with these homes.
    #[must_use]
    pub fn new(homes: impl IntoIterator<Item = Home>) -> Self {
        let directory = Self::default();
        for home in homes {
            directory.put(home);
        }
        directory
    }

    /// Knows the home from now on.
    pub fn put(&self, home: Home) {
        self.put_stale(home.clone(), home);
    }

    /// Answers with `cached` until it is asked afresh, and then with `fresh`.
    pub fn put_stale(&self, cached: Home, fresh: Home) {
        let mut homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        homes.insert(cached.tenant, Answers { cached, fresh });
    }

    /// How often it was asked afresh.
    #[must_use]
    pub fn fresh_asked(&self) -> usize {
        self.fresh_asked.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Directory for StaticDirectory {
    async fn home(&self, _: &Ctx, tenant: TenantId, fresh: bool) -> Result<Home, DirectoryError> {
        let homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = homes.get(&tenant).ok_or(DirectoryError::TenantUnknown)?;
        if fresh {
            self.fresh_asked.fetch_add(1, Ordering::Relaxed);
            return Ok(answers.fresh.clone());
        }
        Ok(answers.cached.clone())
    }
}

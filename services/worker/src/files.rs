//! Where reports are kept: a folder, or a bucket of an S3 service.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use rowhouse_types::{ReportId, TenantId};

/// Where files are kept, as `ROWHOUSE_FILES_URL` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `file:///folder`.
    Folder(PathBuf),
    /// `s3://bucket/prefix`. Credentials and region come from the variables that S3 clients read (`AWS_...`).
    Bucket {
        /// Its name.
        bucket: String,
        /// What every key in it begins with; may be empty.
        prefix: String,
    },
}

/// The text names no place for files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be file:///folder or s3://bucket/prefix")]
pub struct ParsePlaceError;

/// The place cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("the folder for files cannot be made: {0}")]
    Folder(#[from] std::io::Error),
    #[error("the store of files cannot be set up: {0}")]
    Store(#[from] object_store::Error),
    #[cfg(not(feature = "s3"))]
    #[error("files in a bucket need a worker built with the feature `s3`")]
    NotBuilt,
}

/// The files of reports. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

// === impl Place ===

impl Place {
    /// Stands in where the environment names no place; the process then refuses to start.
    pub(crate) fn nowhere() -> Self {
        Self::Folder(PathBuf::new())
    }
}

impl FromStr for Place {
    type Err = ParsePlaceError;

    fn from_str(text: &str) -> Result<Self, ParsePlaceError> {
        if let Some(folder) = text.strip_prefix("file://") {
            // A host between the slashes, or a relative folder, would mean something else on every machine.
            return if folder.starts_with('/') && !folder.split('/').any(|part| part == "..") {
                Ok(Self::Folder(folder.into()))
            } else {
                Err(ParsePlaceError)
            };
        }
        let rest = text.strip_prefix("s3://").ok_or(ParsePlaceError)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
        if bucket.is_empty() || !bucket.chars().all(known) {
            return Err(ParsePlaceError);
        }
        Ok(Self::Bucket {
            bucket: bucket.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
        })
    }
}

// === impl Files ===

impl Files {
    pub(crate) fn open(place: &Place) -> Result<Self, OpenError> {
        match place {
            Place::Folder(folder) => {
                std::fs::create_dir_all(folder)?;
                // The database will say that the file is there, so it must outlast a crash as the database does. A folder
                // goes with its last file.
                let store = LocalFileSystem::new_with_prefix(folder)?
                    .with_fsync(true)
                    .with_automatic_cleanup(true);
                Ok(Self {
                    store: Arc::new(store),
                    prefix: Path::default(),
                })
            }
            Place::Bucket { bucket, prefix } => open_bucket(bucket, prefix),
        }
    }

    /// Path of the file that one attempt at a report writes. Each attempt has its own, so that two which overlap cannot
    /// write into each other's.
    pub(crate) fn path(tenant: TenantId, report: ReportId, attempt: i32) -> String {
        format!("reports/{tenant}/{report}/{attempt}.csv")
    }

    /// A writer to `path`; the file is there once it was shut down.
    pub(crate) fn writer(&self, path: &str) -> BufWriter {
        BufWriter::new(Arc::clone(&self.store), self.full(path))
    }

    /// The file's bytes, in pieces of any size.
    pub(crate) async fn read(
        &self,
        path: &str,
    ) -> object_store::Result<impl Stream<Item = object_store::Result<Bytes>> + Send + use<>> {
        Ok(self.store.get(&self.full(path)).await?.into_stream())
    }

    /// Removes a file that nobody will ask for. That it stays does no harm but cost space.
    pub(crate) async fn discard(&self, path: &str) {
        match self.store.delete(&self.full(path)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(fault) => tracing::warn!(cause = %fault, "a file that nobody needs could not be removed"),
        }
    }

    /// Removes every file of a tenant; whether it was there or is written by others meanwhile does not matter.
    pub(crate) async fn discard_all(&self, tenant: TenantId) -> object_store::Result<()> {
        let folder = self.full(&format!("reports/{tenant}"));
        let found = self.store.list(Some(&folder)).map_ok(|file| file.location).boxed();
        let mut removed = self.store.delete_stream(found);
        while let Some(removed) = removed.next().await {
            match removed {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    fn full(&self, path: &str) -> Path {
        let parts = path.split('/').map(Into::into);
        self.prefix.parts().chain(parts).collect()
    }
}

#[cfg(feature = "s3")]
fn open_bucket(bucket: &str, prefix: &str) -> Result<Files, OpenError> {
    let store = object_store::aws::AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .build()?;
    Ok(Files {
        store: Arc::new(store),
        prefix: prefix.into(),
    })
}

#[cfg(not(feature = "s3"))]
fn open_bucket(_bucket: &str, _prefix: &str) -> Result<Files, OpenError> {
    Err(OpenError::NotBuilt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_buckets_are_read_and_nothing_else_is() {
        assert_eq!("file:///var/files".parse(), Ok(Place::Folder("/var/files".into())));
        let bucket = |bucket: &str, prefix: &str| Place::Bucket {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        };
        assert_eq!("s3://files".parse(), Ok(bucket("files", "")));
        assert_eq!("s3://files/a/b/".parse(), Ok(bucket("files", "a/b")));
        for text in [
            "",
            "file://",
            "file://host/x",
            "file:///a/../b",
            "s3://",
            "s3:///x",
            "s3://A",
            "/var",
            "http://x",
        ] {
            assert_eq!(text.parse::<Place>(), Err(ParsePlaceError), "{text}");
        }
    }
}

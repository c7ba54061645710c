//! Homes in a database of the tenant's own.
//!
//! The registry there is the one that counts: `enter` reads it, and what is asked or changed of the home is asked or
//! changed there. The server's main database knows that there is such a database, since before it was created.

use rowhouse_types::{HomeState, OperationId, Placement, ServerName, TenantId};
use sqlx::{Connection as _, PgConnection, Postgres, Transaction};

use super::{ACQUIRE_MAX, BEGIN, Provisioner};
use crate::home::Home;
use crate::migrator::house::Wall;
use crate::migrator::login::{self, CLUSTER_DATABASE};
use crate::migrator::registry::House;
use crate::migrator::registry::databases::{self, State};
use crate::migrator::{ProvisionError, database, house, registry};
use crate::platform;

impl Provisioner {
    /// A connection to the tenant's own database; none where the tenant has none. It ends when it is dropped.
    ///
    /// # Errors
    /// [`ProvisionError::HomeAbsent`] where it is not ready yet, or about to go.
    pub(in crate::migrator) async fn own(
        &self,
        tenant: TenantId,
        server: &ServerName,
    ) -> Result<Option<PgConnection>, ProvisionError> {
        let mut main = self.pool(server)?.acquire().await?;
        let state = databases::state_of(&mut main, tenant, self.participant).await?;
        drop(main);
        match state {
            None => Ok(None),
            Some(State::Ready) => self.open(server, Some(&house::own_name(tenant))).await.map(Some),
            Some(State::Building | State::Leaving) => Err(ProvisionError::HomeAbsent),
        }
    }

    /// Begins a transaction where the tenant's registry is.
    pub(super) async fn begin_at<'c>(
        &self,
        own: &'c mut Option<PgConnection>,
        server: &ServerName,
    ) -> Result<Transaction<'c, Postgres>, ProvisionError> {
        match own {
            Some(own) => bounded(own).await,
            None => self.begin(server).await,
        }
    }

    /// Makes a home in a database of its own ready: claims the spare, or builds a home where there is none. Without an operation
    /// it is the spare that is built. What a dead process has left of it is gone on with.
    pub(super) async fn prepare_own(
        &self,
        tenant: TenantId,
        server: &ServerName,
        operation: Option<OperationId>,
    ) -> Result<Home, ProvisionError> {
        // Committed before anything is created, so that what is left behind is known for ours.
        let mut main = self.begin(server).await?;
        registry::lock_work(&mut main, tenant).await?;
        if let Some(operation) = operation {
            databases::claim_spare(&mut main, tenant, self.participant, operation).await?;
        }
        let seen = self.look(&mut main, tenant, operation).await?;
        if seen.is_none() {
            let name = house::own_name(tenant);
            if database::exists(&mut main, &name).await? {
                // Another registered server stands on the same cluster, and the tenant's database is its.
                return Err(ProvisionError::HomeExists);
            }
            databases::claim(&mut main, tenant, self.participant, &name, operation).await?;
        }
        main.commit().await?;

        let mut main = self.begin(server).await?;
        registry::lock_work(&mut main, tenant).await?;
        let home = match self.look(&mut main, tenant, operation).await? {
            None => return Err(ProvisionError::HomeDropped),
            Some((State::Building, generation)) => {
                let (home, house, sealed) = self
                    .build_own(&mut main, tenant, server, (operation, generation))
                    .await?;
                let newest = platform::newest();
                databases::set_ready(&mut main, tenant, self.participant, &house, newest, &sealed).await?;
                home
            }
            Some((State::Ready | State::Leaving, generation)) => {
                main.rollback().await?;
                return match operation {
                    Some(operation) => self.use_own(tenant, server, (operation, generation)).await,
                    None => self.refresh_own(tenant, server).await,
                };
            }
        };
        main.commit().await?;
        let (version, state) = (home.version, home.state.as_str());
        tracing::info!(tenant = %tenant, server = %server, version, state, "a home with its own database is ready");
        Ok(home)
    }

    /// Removes the tenant's own database, then its login; `None` where the tenant has none.
    pub(super) async fn drop_own(&self, tenant: TenantId, server: &ServerName) -> Result<Option<()>, ProvisionError> {
        let mut main = self.begin(server).await?;
        registry::lock_work(&mut main, tenant).await?;
        let state = databases::state_of(&mut main, tenant, self.participant).await?;
        let Some(state) = state else { return Ok(None) };
        if state != State::Leaving {
            self.empty_own(&mut main, tenant, server, state).await?;
            databases::set_leaving(&mut main, tenant).await?;
        }
        // What was carried over must be safe before the other copy goes.
        main.commit().await?;

        let mut main = self.begin(server).await?;
        registry::lock_work(&mut main, tenant).await?;
        // Another may have finished meanwhile, and a newer operation begun.
        if databases::state_of(&mut main, tenant, self.participant).await? == Some(State::Leaving) {
            self.remove_own(&mut main, tenant, server).await?;
            databases::forget(&mut main, tenant).await?;
            main.commit().await?;
            tracing::info!(tenant = %tenant, server = %server, "a home in a database of its own was dropped");
        }
        Ok(Some(()))
    }

    /// Removes the database of a home that is leaving, then its login, unless they are gone and another server has made its own.
    ///
    /// `main`: the transaction in the main database that keeps others from this tenant.
    async fn remove_own(
        &self,
        main: &mut PgConnection,
        tenant: TenantId,
        server: &ServerName,
    ) -> Result<(), ProvisionError> {
        let name = house::own_name(tenant);
        let mut shared = self.open(server, Some(CLUSTER_DATABASE)).await?;
        let alone = self.alone_with(&mut shared, tenant).await?;
        if self.is_of_another(main, tenant, server).await? {
            tracing::warn!(
                tenant = %tenant,
                server = %server,
                "the database of a dropped home is gone; another server has made one of that name, which stays"
            );
        } else {
            let mut admin = self.open(server, None).await?;
            database::drop(&mut admin, &name).await?;
            admin.close().await?;
            let mut cluster = self.open(server, Some(CLUSTER_DATABASE)).await?;
            login::remove(&mut cluster, &name).await?;
            cluster.close().await?;
        }
        alone.rollback().await?;
        shared.close().await?;
        Ok(())
    }

    /// Whether the database of the tenant's name holds a home that this server's registry has not claimed.
    async fn is_of_another(
        &self,
        main: &mut PgConnection,
        tenant: TenantId,
        server: &ServerName,
    ) -> Result<bool, ProvisionError> {
        let name = house::own_name(tenant);
        if !database::is_whole(main, &name).await? {
            return Ok(false);
        }
        let mut own = self.open(server, Some(&name)).await?;
        let home = if database::has_registry(&mut own).await? {
            registry::find(&mut own, tenant, self.participant).await?
        } else {
            None
        };
        own.close().await?;
        let claim = registry::find(main, tenant, self.participant).await?;
        // Of one without a home nobody was told: whoever is making it begins again.
        Ok(home.is_some_and(|home| claim.is_none_or(|claim| claim.operation != home.operation)))
    }

    /// Begins a transaction that keeps every server of the cluster from the tenant's database and its login. Names are the
    /// cluster's, and registered servers may stand on one, each with a registry of its own.
    ///
    /// `shared`: a connection to the database that all of them have, [`CLUSTER_DATABASE`].
    pub(in crate::migrator) async fn alone_with<'c>(
        &self,
        shared: &'c mut PgConnection,
        tenant: TenantId,
    ) -> Result<Transaction<'c, Postgres>, ProvisionError> {
        let mut alone = bounded(shared).await?;
        registry::lock_cluster(&mut alone, tenant).await?;
        Ok(alone)
    }

    /// Whether there is a login of the tenant's own database: after [`Provisioner::drop`], whether it was left, since something was
    /// granted to it elsewhere.
    ///
    /// # Errors
    /// When the server is not known or does not answer.
    pub async fn has_login(&self, tenant: TenantId, server: &ServerName) -> Result<bool, ProvisionError> {
        let mut main = self.pool(server)?.acquire().await?;
        Ok(login::exists(&mut main, &house::own_name(tenant)).await?)
    }

    /// What the operation finds in the main database: the state of the database that it has claimed, and its generation;
    /// `None` where it may claim one. Without an operation, the same of the spare.
    pub(super) async fn look(
        &self,
        main: &mut PgConnection,
        tenant: TenantId,
        operation: Option<OperationId>,
    ) -> Result<Option<(State, i64)>, ProvisionError> {
        let state = databases::state_of(main, tenant, self.participant).await?;
        let Some(entry) = registry::find(main, tenant, self.participant).await? else {
            return Ok(None);
        };
        let own = entry.operation == operation.map(|operation| operation.uuid());
        match state {
            Some(State::Leaving) if own => Err(ProvisionError::HomeDropped),
            Some(state) if own => Ok(Some((state, entry.generation))),
            Some(_) => Err(ProvisionError::HomeExists),
            None if entry.place.is_some() => Err(ProvisionError::HomeExists),
            // No spare is built for a tenant that has gone.
            None if own || operation.is_none() => Err(ProvisionError::HomeDropped),
            None => Ok(None),
        }
    }

    /// Creates the database and the home in it, as far as they are not there, and its login with a new password: the home, its
    /// house, and the password, sealed.
    ///
    /// `main`: the transaction in the main database that keeps others from this tenant.
    async fn build_own(
        &self,
        main: &mut PgConnection,
        tenant: TenantId,
        server: &ServerName,
        (operation, generation): (Option<OperationId>, i64),
    ) -> Result<(Home, House, Vec<u8>), ProvisionError> {
        let name = house::own_name(tenant);
        let mut shared = self.open(server, Some(CLUSTER_DATABASE)).await?;
        // What is neither complete nor ours yet is not dropped for another's meanwhile.
        let alone = self.alone_with(&mut shared, tenant).await?;
        let mut admin = self.open(server, None).await?;
        if !database::exists(&mut admin, &name).await? {
            database::create(&mut admin, &name).await?;
        }
        database::guard(&mut admin, &name).await?;
        admin.close().await?;

        let mut own = self.open(server, Some(&name)).await?;
        platform::migrate(&mut own).await?;
        let mut tx = bounded(&mut own).await?;
        let (home, house) = match registry::find(&mut tx, tenant, self.participant).await? {
            Some(entry)
                if entry.operation == operation.map(|operation| operation.uuid()) && entry.generation == generation =>
            {
                let home = entry.home(tenant, server);
                home.zip(entry.place.map(|(house, _)| house))
                    .ok_or(ProvisionError::HomeDropped)?
            }
            Some(_) => return Err(ProvisionError::HomeExists),
            None => {
                let placement = Placement::Database;
                let wall = Wall::Number(tenant);
                let house = self.build(&mut tx, name.clone(), placement, wall).await?;
                registry::insert_home_as(&mut tx, tenant, self.participant, &house, operation, generation).await?;
                let home = Home {
                    tenant,
                    server: server.clone(),
                    placement,
                    generation,
                    version: house.version,
                    state: operation.map_or(HomeState::Spare, |_| HomeState::Active),
                    transactions_max: None,
                };
                (home, house)
            }
        };
        // Not before it is known whose database this is.
        let sealed = self.make_login((main, tenant), &mut tx, server).await?;
        login::keep_others_out(&mut tx, &name).await?;
        tx.commit().await?;
        own.close().await?;
        alone.rollback().await?;
        shared.close().await?;
        Ok((home, house, sealed))
    }

    /// Makes the login of a tenant's own database, or gives it another password, which is returned sealed.
    ///
    /// `main`: the transaction in the main database that keeps others from this tenant. It is idle while the database is made,
    /// and may have been ended for that: then another has begun, and would not know of this password. `own`: a transaction in the
    /// tenant's database.
    pub(in crate::migrator) async fn make_login(
        &self,
        (main, tenant): (&mut PgConnection, TenantId),
        own: &mut PgConnection,
        server: &ServerName,
    ) -> Result<Vec<u8>, ProvisionError> {
        let name = &house::own_name(tenant);
        login::lock(own).await?;
        databases::state_of(main, tenant, self.participant).await?;
        let mut cluster = self.open(server, Some(CLUSTER_DATABASE)).await?;
        let made = login::make(&mut cluster, &self.logins, name, self.login_connections_max).await?;
        cluster.close().await?;
        login::let_in(own, name, &made).await?;
        Ok(made.sealed)
    }

    /// Takes the home out of its database, so that a late Thaw finds none, and what was not published yet.
    async fn empty_own(
        &self,
        main: &mut PgConnection,
        tenant: TenantId,
        server: &ServerName,
        state: State,
    ) -> Result<(), ProvisionError> {
        let name = house::own_name(tenant);
        if !database::exists(main, &name).await? {
            return Ok(());
        }
        let mut own = self.open(server, Some(&name)).await?;
        if !database::has_registry(&mut own).await? {
            return Ok(());
        }
        let mut tx = bounded(&mut own).await?;
        registry::lock_work(&mut tx, tenant).await?;
        let home = registry::find(&mut tx, tenant, self.participant).await?;
        if let Some((operation, home)) = home.and_then(|home| home.place.map(|place| (home.operation, place.1))) {
            // Nobody was told of one that is still being built.
            if state == State::Ready && home != HomeState::Frozen {
                return Err(ProvisionError::NotFrozen);
            }
            let claim = registry::find(main, tenant, self.participant).await?;
            if claim.is_none_or(|claim| claim.operation != operation) {
                return Err(ProvisionError::Damaged(
                    "another server's home is in the database".to_owned(),
                ));
            }
            registry::forget_home(&mut tx, tenant, self.participant).await?;
        }
        tx.commit().await?;
        database::carry_events(&mut own, main).await?;
        own.close().await?;
        Ok(())
    }

    /// A connection that is not the pool's: to the main database, which creates and drops others outside a transaction, or
    /// to a tenant's own.
    pub(in crate::migrator) async fn open(
        &self,
        server: &ServerName,
        name: Option<&str>,
    ) -> Result<PgConnection, ProvisionError> {
        let options = self.pool(server)?.connect_options();
        let options = match name {
            Some(name) => (*options).clone().database(name),
            None => (*options).clone(),
        };
        match tokio::time::timeout(ACQUIRE_MAX, PgConnection::connect_with(&options)).await {
            Ok(connected) => Ok(connected?),
            Err(_) => Err(ProvisionError::Database(sqlx::Error::PoolTimedOut)),
        }
    }
}

pub(in crate::migrator) async fn bounded(own: &mut PgConnection) -> Result<Transaction<'_, Postgres>, ProvisionError> {
    Ok(own.begin_with(BEGIN).await?)
}

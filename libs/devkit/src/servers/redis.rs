//! A private Redis.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Plan, ensure_running};
use crate::spawn::{Account, Launch};
use crate::stack::{Profile, Stack};

pub(super) struct RedisPlan {
    pub(super) url: String,
    private: Option<(Launch, u16, String)>,
}

pub(super) fn plan(plan: &mut Plan<'_>, given: Option<String>, program: Option<&Path>) -> Result<RedisPlan> {
    if let Some(url) = given {
        return Ok(RedisPlan { url, private: None });
    }
    let port = plan.port("redis", "redis")?;
    let password = plan.secrets.password("redis")?;
    let folder = plan.data.join("redis");
    Account::folder(None, &folder)?;
    let configuration = folder.join("redis.conf");
    let launch = Launch {
        process: "redis".to_owned(),
        program: program.context("Redis was not looked for")?.to_owned(),
        arguments: vec![configuration.clone().into()],
        environment: Vec::new(),
        folder: folder.clone(),
        log: plan.stack.log("redis"),
        account: None,
        files: vec![(configuration, settings(plan.stack.profile(), port, &password, &folder))],
    };
    let url = format!("redis://:{password}@127.0.0.1:{port}/");
    Ok(RedisPlan {
        url,
        private: Some((launch, port, password)),
    })
}

/// Redis only saves refills, so losing it is harmless: dev keeps a snapshot, all else nothing. It must not write its title
/// over its environment, or its mark would be gone.
fn settings(profile: Profile, port: u16, password: &str, folder: &Path) -> String {
    let save = match profile {
        Profile::Dev => "60 100",
        Profile::Test | Profile::Bench => "\"\"",
    };
    format!(
        "bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir \"{}\"\nsave {save}\nappendonly no\nmaxmemory 256mb\n\
         maxmemory-policy allkeys-lru\nset-proc-title no\ndaemonize no\n",
        folder.display()
    )
}

pub(super) async fn run(stack: &Stack, plan: &RedisPlan) -> Result<Option<(String, Duration)>> {
    let Some((launch, port, password)) = &plan.private else {
        return Ok(None);
    };
    ensure_running(stack, launch, || ping(*port, password)).await
}

async fn ping(port: u16, password: &str) -> Result<bool> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
    connection
        .write_all(format!("AUTH {password}\r\nPING\r\nQUIT\r\n").as_bytes())
        .await?;
    let mut answer = String::new();
    connection.take(1024).read_to_string(&mut answer).await?;
    Ok(answer.contains("+PONG"))
}

//! The control of T07: the same Redis, by who takes the next answer on a connection for their own.

use std::fmt::Write as _;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use redis::{AsyncCommands as _, ConnectionAddr, IntoConnectionInfo as _};
use rowhouse_devkit::fixture;
use rowhouse_types::TenantId;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::{canary, raw_unbounded};
use crate::Key;
use crate::envelope::{self, OpenError};

/// A client as one writes it in an afternoon: one connection for all, and nobody asks whether who had it last has read the answer.
struct Naive(Mutex<BufReader<TcpStream>>);

// === impl Naive ===

impl Naive {
    async fn connect() -> Self {
        let info = fixture::servers().unwrap().redis_url().into_connection_info().unwrap();
        let ConnectionAddr::Tcp(host, port) = info.addr() else {
            panic!("a Redis of another kind: {:?}", info.addr());
        };
        let stream = TcpStream::connect((host.as_str(), *port)).await.unwrap();
        let naive = Self(Mutex::new(BufReader::new(stream)));
        let settings = info.redis_settings();
        if let Some(password) = settings.password() {
            naive.ask(&["AUTH", password]).await;
        }
        naive.ask(&["SELECT", &settings.db().to_string()]).await;
        naive
    }

    /// The value that a command answers; nothing where it answers something else.
    async fn ask(&self, words: &[&str]) -> Option<Vec<u8>> {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            write!(command, "${}\r\n{word}\r\n", word.len()).unwrap();
        }
        let mut stream = self.0.lock().await;
        stream.write_all(command.as_bytes()).await.unwrap();
        // Who is dropped from here on leaves an answer behind, and the connection for the next.
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let length: usize = line.trim_end().strip_prefix('$')?.parse().ok()?;
        let mut value = vec![0; length + 2];
        stream.read_exact(&mut value).await.unwrap();
        value.truncate(length);
        Some(value)
    }
}

#[tokio::test]
async fn a_foreign_canary_crosses_where_a_dropped_operation_leaves_its_answer_behind() {
    let prefix = fixture::redis_prefix("naive");
    let [mine, theirs] = [(); 2].map(|()| Key::tenant(TenantId::generate(), "canary", "x"));
    let [my_name, their_name] = [&mine, &theirs].map(|key| key.full(&prefix));
    let mut raw = raw_unbounded().await;
    for (key, name) in [(&mine, &my_name), (&theirs, &their_name)] {
        let sealed = envelope::seal(key, name, &canary(key)).unwrap();
        let _: () = raw.set(name, sealed).await.unwrap();
    }
    let naive = Naive::connect().await;
    let get = async |name: &str| naive.ask(&["GET", name]).await.unwrap();
    let owner_of = |value: &[u8]| {
        let opened = [(&mine, &my_name), (&theirs, &their_name)].map(|(key, name)| envelope::open(key, name, value));
        opened.into_iter().find_map(Result::<String, _>::ok)
    };
    assert_eq!(
        owner_of(&get(&my_name).await),
        Some(canary(&mine)),
        "as long as nobody is dropped"
    );

    {
        let mut dropped = pin!(get(&their_name));
        let is_answered = poll_fn(|context| Poll::Ready(dropped.as_mut().poll(context).is_ready())).await;
        assert!(!is_answered, "the question is out, and the answer cannot be there yet");
    }
    let crossed = get(&my_name).await;
    assert_eq!(
        owner_of(&crossed),
        Some(canary(&theirs)),
        "the canary that who was dropped has asked for"
    );
    // What the cache has beside its rule that a doubtful connection is thrown away.
    let opened = envelope::open::<String>(&mine, &my_name, &crossed);
    assert_eq!(opened, Err(OpenError::Foreign));
}

//! T12: many families of refresh tokens at once, each by a client that keeps books of what it holds. It loses answers, asks again,
//! races itself and is cut off in the middle; it stays logged in, with one live token. In the end somebody uses a token that they
//! should not have any more; then nothing of the family lives on.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures_util::future::join_all;
use rowhouse_devkit::torture::{Dice, Torture};
use tokio::task::JoinSet;

use super::super::refresh::refresh;
use crate::error::Error;
use crate::rights::Standing;
use crate::session::{Pair, RefreshToken};
use crate::tests::bench::{Bench, PASSWORD, anonymous};

/// Families at once, and what each goes through before it is stolen from: in the short form and in the long one.
const FAMILIES: [usize; 2] = [6, 12];
const STEPS: [usize; 2] = [12, 60];

/// Of a future that is given up, more polls than it ever needs.
const POLLS_MAX: usize = 400;

/// What a client does that is in its right.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// It uses its token, and gets the next.
    Use,
    /// It uses its token, does not hear the answer, and asks again.
    Lose,
    /// It asks once more with the token that it has used last.
    AskAgain,
    /// It uses its token many times at once, and asks again.
    Race,
    /// It is cut off in the middle, and asks again.
    Cut,
}

impl Step {
    const ALL: [Self; 5] = [Self::Use, Self::Lose, Self::AskAgain, Self::Race, Self::Cut];
}

/// What becomes of a family in the end.
#[derive(Clone, Copy, Debug)]
enum Theft {
    /// Somebody uses a token whose successor was used.
    Old,
    /// Somebody uses a token that was given out, lost, and replaced.
    Lost,
    /// Somebody uses the token that was used last, when the grace is over.
    Late,
}

/// A client and its books.
struct Client {
    bench: Arc<Bench>,
    pair: Pair,
    /// The one that it would use next.
    newest: RefreshToken,
    /// The one that it has used last: its successor, `newest`, was not used yet.
    used: Option<RefreshToken>,
    /// Those before, whose successors were used too.
    old: Vec<RefreshToken>,
    /// Those that it was given and that were replaced, unused.
    lost: Vec<RefreshToken>,
}

impl Client {
    async fn start(bench: Arc<Bench>, email: &str) -> Self {
        let pair = bench.login(email, PASSWORD, None).await.unwrap();
        Self {
            newest: pair.refresh_token.clone(),
            bench,
            pair,
            used: None,
            old: Vec::new(),
            lost: Vec::new(),
        }
    }

    async fn refresh(&self, token: &RefreshToken) -> Result<RefreshToken, Error> {
        Ok(refresh(&anonymous(), &self.bench.state, token).await?.refresh_token)
    }

    /// As somebody from an address of their own: of many from one that are not good, the last would not be looked at.
    async fn refresh_elsewhere(&self, number: usize, token: &RefreshToken) -> Result<RefreshToken, Error> {
        let address = format!("10.1.{}.{}", number / 250, number % 250);
        let call = anonymous().with_origin(None, Some(address));
        Ok(refresh(&call, &self.bench.state, token).await?.refresh_token)
    }

    /// Begins to use a token, and gives that up after so many polls. The answer, where it came before.
    async fn begin(&self, token: &RefreshToken, polls: usize) -> Option<Result<RefreshToken, Error>> {
        let mut answer = pin!(self.refresh(token));
        for _ in 0..polls {
            let polled = std::future::poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx))).await;
            if let Poll::Ready(answer) = polled {
                return Some(answer);
            }
            tokio::task::yield_now().await;
        }
        None
    }

    /// Notes that `newest` was used and that `next` came for it.
    fn advance(&mut self, next: RefreshToken) {
        let used = std::mem::replace(&mut self.newest, next);
        self.old.extend(self.used.replace(used));
    }

    async fn step(&mut self, step: Step, dice: &mut Dice) -> Result<(), Error> {
        match step {
            Step::Use => {
                let next = self.refresh(&self.newest).await?;
                self.advance(next);
            }
            Step::Lose => {
                let lost = self.refresh(&self.newest).await?;
                let next = self.refresh(&self.newest).await?;
                self.lost.push(lost);
                self.advance(next);
            }
            Step::AskAgain => {
                if let Some(used) = &self.used {
                    let next = self.refresh(used).await?;
                    self.lost.push(std::mem::replace(&mut self.newest, next));
                }
            }
            Step::Race => {
                let racers = (0..2 + dice.below(6)).map(|_| self.refresh(&self.newest));
                let answers: Result<Vec<_>, Error> = join_all(racers).await.into_iter().collect();
                let next = self.refresh(&self.newest).await?;
                self.lost.extend(answers?);
                self.advance(next);
            }
            Step::Cut => {
                let next = match self.begin(&self.newest, dice.below(POLLS_MAX)).await {
                    Some(answer) => answer?,
                    None => self.refresh(&self.newest).await?,
                };
                self.advance(next);
            }
        }
        Ok(())
    }

    /// How many tokens of the family could be used.
    async fn live(&self) -> i64 {
        let sql = format!(
            "SELECT count(*) FROM auth.refresh_tokens JOIN auth.sessions AS session ON session.id = session_id
             WHERE session_id = '{}' AND used_at IS NULL AND refresh_tokens.revoked_at IS NULL
                 AND session.revoked_at IS NULL",
            self.pair.session.id.uuid()
        );
        self.bench.count(&sql).await
    }

    /// Uses a token that is nobody's any more. `None` where the client never had such a one.
    async fn steal(&self, theft: Theft, dice: &mut Dice) -> Option<Result<RefreshToken, Error>> {
        let any = |tokens: &[RefreshToken], dice: &mut Dice| tokens.get(dice.below(tokens.len())).cloned();
        let token = match theft {
            Theft::Old => any(&self.old, dice),
            Theft::Lost => any(&self.lost, dice),
            Theft::Late => {
                let past = "UPDATE auth.refresh_tokens SET used_at = used_at - interval '31 s' WHERE session_id";
                let sql = format!("{past} = '{}'", self.pair.session.id.uuid());
                self.bench.execute(&sql).await;
                self.used.clone()
            }
        };
        Some(self.refresh(&token?).await)
    }

    /// How many of the tokens that the client ever held are still good for something.
    async fn alive(&self) -> usize {
        let mut alive = 0;
        let tokens = self.old.iter().chain(&self.lost).chain(&self.used);
        for (number, token) in tokens.chain([&self.newest]).enumerate() {
            let answer = self.refresh_elsewhere(number, token).await;
            alive += usize::from(!matches!(answer, Err(Error::RefreshTokenInvalid)));
        }
        alive
    }
}

/// One family from its first step to its end. Answers how often its tokens were used.
async fn family(mut client: Client, steps: usize, mut dice: Dice) -> usize {
    for number in 0..steps {
        let step = Step::ALL[dice.below(Step::ALL.len())];
        let done = client.step(step, &mut dice).await;
        assert!(done.is_ok(), "step {number}, {step:?}: logged out: {:?}", done.err());
        assert_eq!(
            client.live().await,
            1,
            "step {number}, {step:?}: a fork, or nothing is left"
        );
        let standing = client.bench.standing(&client.pair).await;
        assert_eq!(standing, Standing::Good, "step {number}, {step:?}");
    }
    let theft = [Theft::Old, Theft::Lost, Theft::Late][dice.below(3)];
    if let Some(stolen) = client.steal(theft, &mut dice).await {
        assert!(
            matches!(stolen, Err(Error::RefreshTokenInvalid)),
            "{theft:?} brought something"
        );
        assert_eq!(client.live().await, 0, "{theft:?}");
        assert_eq!(
            client.bench.standing(&client.pair).await,
            Standing::Revoked,
            "{theft:?}"
        );
        assert_eq!(client.alive().await, 0, "{theft:?}");
    }
    client.old.len() + client.lost.len()
}

async fn round(torture: &mut Torture, dice: &Dice) {
    let bench = Arc::new(Bench::start("families").await);
    let house = bench.house("acme").await;
    let size = |[short, long]: [usize; 2]| torture.size(short, long);
    let (families, steps) = (size(FAMILIES), size(STEPS));
    let mut tasks = JoinSet::new();
    for number in 0..families {
        // One after the other: many at once from one address would have to wait.
        let client = Client::start(bench.clone(), &house.email).await;
        tasks.spawn(family(client, steps, dice.of_task(number)));
    }
    while let Some(used) = tasks.join_next().await {
        torture.trials(used.unwrap());
    }
    torture.count("families", families);
}

#[tokio::test]
async fn families_never_fork_never_log_out_and_end_when_stolen_from() {
    let mut torture = Torture::begin("T12", "families");
    while let Some(dice) = torture.round() {
        round(&mut torture, &dice).await;
    }
}

/// The control: a fork, and a family that lives on after a theft, are seen by the same books.
#[tokio::test]
async fn a_fork_and_a_family_that_lives_on_are_noticed() {
    let bench = Arc::new(Bench::start("families_control").await);
    let house = bench.house("acme").await;
    let mut client = Client::start(bench.clone(), &house.email).await;
    let mut dice = Dice::new(7);
    client.step(Step::Use, &mut dice).await.unwrap();
    client.step(Step::Use, &mut dice).await.unwrap();
    let stolen = client.steal(Theft::Old, &mut dice).await.unwrap();
    assert!(stolen.is_err());
    assert_eq!((client.live().await, client.alive().await), (0, 0));
    bench
        .execute("UPDATE auth.sessions SET revoked_at = NULL, revoke_reason = NULL")
        .await;
    assert_eq!(client.live().await, 1, "it lives on");
    assert_eq!(client.bench.standing(&client.pair).await, Standing::Good);
    let fork = format!(
        "DROP INDEX auth.refresh_tokens_one_live;
         INSERT INTO auth.refresh_tokens (token_hash, session_id, expires_at) VALUES ('\\x00', '{}', now())",
        client.pair.session.id.uuid()
    );
    bench.execute(&fork).await;
    assert_eq!(client.live().await, 2);
}

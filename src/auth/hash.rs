//! Password hashes: ours (argon2id) and those that bip, ZNC and soju wrote, which are only ever read. `Hasher` does the
//! work on two threads of its own, for it is slow on purpose and must not hold up the runtime. Who may try how often is
//! `gate`'s.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use argon2::password_hash::phc::{Output, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};
use md5::Md5;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::{Semaphore, oneshot};
use zeroize::Zeroizing;

/// KiB, passes and lanes of our own hashes: the first choice of the OWASP password storage guide.
const COST: (u32, u32, u32) = (19_456, 2, 1);
/// What a hash that comes from elsewhere may cost at most; a dearer one never matches.
const DEAREST: (u32, u32, u32) = (256 * 1024, 16, 16);
const DEAREST_BCRYPT: u32 = 16;
const SALT_LEN: usize = 16;
const OUTPUT_LEN: usize = 32;

/// Hashes a new password with a fresh salt, as a PHC string.
pub fn hash(password: &[u8]) -> String {
    make(password, &mut Memory::default())
}

/// Whether `password` is the one that `hash` was made of. A hash of no known form matches nothing.
pub fn verify(password: &[u8], hash: &str) -> bool {
    check(password, Some(hash), &mut Memory::default())
}

/// Whether `hash` is as strong as those [`hash`] makes, so that it need not be replaced at a login.
pub fn is_current(hash: &str) -> bool {
    let Some(Form::Argon2 { params, .. }) = Form::parse(hash) else {
        return false;
    };
    let (memory, passes, lanes) = COST;
    params.m_cost() >= memory && params.t_cost() >= passes && params.p_cost() >= lanes
}

/// A hash taken apart.
enum Form<'a> {
    Argon2 {
        params: Params,
        version: Version,
        salt: Salt,
        output: Output,
    },
    Bcrypt(&'a str),
    /// What bipmkpw prints: four bytes of seed, then MD5 over the seed and the MD5 of seed and password.
    Bip {
        seed: [u8; 4],
        digest: [u8; 16],
    },
    /// `sha256#HASH#SALT#`: SHA-256 over password and salt.
    Znc {
        digest: [u8; 32],
        salt: &'a str,
    },
}

impl<'a> Form<'a> {
    fn parse(hash: &'a str) -> Option<Self> {
        if hash.starts_with("$argon2") {
            return Self::parse_argon2(hash);
        }
        if hash.starts_with("$2") {
            let cost: u32 = hash.split('$').nth(2)?.parse().ok()?;
            return (cost <= DEAREST_BCRYPT).then_some(Self::Bcrypt(hash));
        }
        if let Some(rest) = hash.strip_prefix("sha256#") {
            let (digest, salt) = rest.split_once('#')?;
            return Some(Self::Znc {
                digest: unhex(digest)?,
                salt: salt.strip_suffix('#').unwrap_or(salt),
            });
        }
        let (seed, digest) = hash.split_at_checked(8)?;
        Some(Self::Bip {
            seed: unhex(seed)?,
            digest: unhex(digest)?,
        })
    }

    fn parse_argon2(hash: &str) -> Option<Self> {
        let parts = PasswordHash::new(hash).ok()?;
        let params = Params::try_from(&parts).ok()?;
        let (memory, passes, lanes) = DEAREST;
        let affordable =
            params.m_cost() <= memory && params.t_cost() <= passes && params.p_cost() <= lanes;
        if parts.algorithm != ARGON2ID_IDENT || !affordable {
            return None;
        }
        let version = parts
            .version
            .map_or(Ok(Version::V0x13), Version::try_from)
            .ok()?;
        Some(Self::Argon2 {
            params,
            version,
            salt: parts.salt?,
            output: parts.hash?,
        })
    }
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let digit = |at: usize| {
        char::from(digits[at])
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut bytes = [0; N];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = digit(2 * i)? << 4 | digit(2 * i + 1)?;
    }
    Some(bytes)
}

/// Whatever the answer, it costs an argon2 hash at least: a user who does not exist, or has an old hash, must not be
/// told by the clock.
fn check(password: &[u8], hash: Option<&str>, memory: &mut Memory) -> bool {
    let right = match hash.and_then(Form::parse) {
        Some(Form::Argon2 {
            params,
            version,
            salt,
            output,
        }) => {
            return argon2(password, &salt, output.len(), version, params, memory)
                .is_some_and(|made| made.ct_eq(output.as_bytes()).into());
        }
        Some(Form::Bcrypt(hash)) => return bcrypt::verify(password, hash).unwrap_or(false),
        Some(Form::Bip { seed, digest }) => {
            let inner = Md5::new()
                .chain_update(seed)
                .chain_update(password)
                .finalize();
            let outer = Md5::new().chain_update(seed).chain_update(inner).finalize();
            outer[..].ct_eq(&digest).into()
        }
        Some(Form::Znc { digest, salt }) => {
            let made = Sha256::new()
                .chain_update(password)
                .chain_update(salt)
                .finalize();
            made[..].ct_eq(&digest).into()
        }
        None => false,
    };
    argon2(
        password,
        &[0; SALT_LEN],
        OUTPUT_LEN,
        Version::V0x13,
        our_params(),
        memory,
    );
    right
}

fn make(password: &[u8], memory: &mut Memory) -> String {
    let mut salt = [0; SALT_LEN];
    // Without randomness there is no TLS either, so nobody would get here.
    getrandom::fill(&mut salt).expect("the system gives random bytes");
    let output = argon2(
        password,
        &salt,
        OUTPUT_LEN,
        Version::V0x13,
        our_params(),
        memory,
    );
    let made = output.expect("our own parameters are valid");
    PasswordHash {
        algorithm: ARGON2ID_IDENT,
        version: Some(Version::V0x13.into()),
        params: our_params()
            .try_into()
            .expect("our own parameters are valid"),
        salt: Some(Salt::new(&salt).expect("16 bytes are a valid salt")),
        hash: Some(Output::new(&made).expect("32 bytes are a valid output")),
    }
    .to_string()
}

fn our_params() -> Params {
    let (memory, passes, lanes) = COST;
    Params::new(memory, passes, lanes, Some(OUTPUT_LEN)).expect("our own parameters are valid")
}

fn argon2(
    password: &[u8],
    salt: &[u8],
    output_len: usize,
    version: Version,
    params: Params,
    memory: &mut Memory,
) -> Option<Zeroizing<Vec<u8>>> {
    let mut output = Zeroizing::new(vec![0; output_len]);
    let blocks = memory.blocks(params.block_count());
    Argon2::new(Algorithm::Argon2id, version, params)
        .hash_password_into_with_memory(password, salt, &mut output, blocks)
        .ok()?;
    Some(output)
}

/// The blocks that argon2 fills, kept from one hash to the next.
#[derive(Default)]
struct Memory(Vec<Block>);

impl Memory {
    /// So many blocks (KiB) are set aside at least, though not touched. glibc gives allocations above 32 MiB a mapping of
    /// their own, always; smaller ones stay with the process for ever once they were freed.
    const RESERVE: usize = 33 * 1024;

    fn blocks(&mut self, count: usize) -> &mut [Block] {
        if self.0.len() < count {
            self.0
                .reserve_exact(count.max(Self::RESERVE) - self.0.len());
            self.0.resize_with(count, Block::default);
        }
        &mut self.0[..count]
    }

    fn release(&mut self) {
        self.0 = Vec::new();
    }
}

/// Checks passwords, two at a time, on threads of its own; who comes later waits. Clones share the threads, which
/// end with the last of them.
#[derive(Clone)]
pub struct Hasher {
    turns: Arc<Semaphore>,
    threads: Arc<Threads>,
}

impl Hasher {
    /// So many hashes are made at a time.
    const WIDTH: usize = 2;

    /// Starts the threads.
    pub fn start() -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let threads = Arc::new(Threads(Arc::clone(&queue)));
        for _ in 0..Self::WIDTH {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name("hash".into())
                .spawn(move || queue.work())?;
        }
        Ok(Self {
            turns: Arc::new(Semaphore::new(Self::WIDTH)),
            threads,
        })
    }

    /// As [`verify`]; without a hash (nobody of that name) the answer is no, and costs the same. Dropping the future
    /// takes it out of the queue.
    pub async fn verify(&self, password: &[u8], hash: Option<&str>) -> bool {
        let password = Zeroizing::new(password.to_vec());
        let hash = hash.map(|hash| Zeroizing::new(hash.to_owned()));
        let work = move |memory: &mut Memory| {
            check(&password, hash.as_ref().map(|hash| hash.as_str()), memory)
        };
        self.run(work).await.unwrap_or(false)
    }

    /// As [`hash`]; `None` when it could not be made.
    pub async fn hash(&self, password: &[u8]) -> Option<String> {
        let password = Zeroizing::new(password.to_vec());
        self.run(move |memory| make(&password, memory)).await
    }

    /// The permit goes along with the work, so that what runs on although nobody waits for it still counts.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Option<T> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok()?;
        let (reply, answer) = oneshot::channel();
        self.threads.0.push(Box::new(move |memory| {
            if !reply.is_closed() {
                // An `Err` means that the caller has left meanwhile.
                let _ = reply.send(work(memory));
            }
            drop(turn);
        }));
        answer.await.ok()
    }
}

/// Ends the threads when it is dropped.
struct Threads(Arc<Queue>);

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.filled.notify_all();
    }
}

type Job = Box<dyn FnOnce(&mut Memory) + Send>;

/// What is to be done now. Never longer than `Hasher::WIDTH`, as each job holds a permit.
#[derive(Default)]
struct Queue {
    state: Mutex<Jobs>,
    filled: Condvar,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    /// A thread that had nothing to do for so long gives its memory back.
    const IDLE: Duration = Duration::from_secs(10);

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) {
        self.lock().waiting.push_back(job);
        self.filled.notify_one();
    }

    fn work(&self) {
        let mut memory = Memory::default();
        while let Some(job) = self.next(&mut memory) {
            // A thread lost to a panic would halve the width for good; the caller sees its reply dropped.
            if catch_unwind(AssertUnwindSafe(|| job(&mut memory))).is_err() {
                memory.release();
            }
        }
    }

    fn next(&self, memory: &mut Memory) -> Option<Job> {
        let mut jobs = self.lock();
        loop {
            if let Some(job) = jobs.waiting.pop_front() {
                return Some(job);
            }
            if jobs.closed {
                return None;
            }
            if memory.0.is_empty() {
                jobs = self
                    .filled
                    .wait(jobs)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let wait = self.filled.wait_timeout(jobs, Self::IDLE);
            let (woken, wait) = wait.unwrap_or_else(PoisonError::into_inner);
            jobs = woken;
            if wait.timed_out() && jobs.waiting.is_empty() {
                memory.release();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Weak, mpsc};
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    /// Made with bipmkpw of bip 0.9.3.
    const BIP: &str = "0453f401c7fee71e1ed7fc5ddf2ac9619ebca242";
    const ZNC: &str = "sha256#9f1b9552f5219401a95e6639e821979ad323b8bcb3751df097163d924efc711b#Jq,-:Vu)!I?.h8ep8?Xx#";
    /// From the test vectors of jBCrypt: the password "a".
    const BCRYPT: &str = "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe";
    /// From the test vectors of the reference implementation: "password", "somesalt".
    const ARGON2: &str =
        "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    #[test]
    fn a_new_hash_matches_its_password_alone() {
        let made = hash("pässword".as_bytes());
        assert!(
            made.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{made}"
        );
        assert!(verify("pässword".as_bytes(), &made));
        assert!(!verify(b"password", &made));
        assert!(!verify(b"", &made));
        assert_ne!(
            made,
            hash("pässword".as_bytes()),
            "the salt is fresh each time"
        );
    }

    #[test]
    fn hashes_of_others_match() {
        for (password, hash) in [
            ("hunter2", BIP),
            ("hunter2", ZNC),
            ("a", BCRYPT),
            ("password", ARGON2),
        ] {
            assert!(verify(password.as_bytes(), hash), "{hash}");
            assert!(!verify(b"hunter3", hash), "{hash}");
        }
        assert!(verify(b"hunter2", &BIP.to_uppercase()));
    }

    #[test]
    fn what_is_no_hash_matches_nothing() {
        for wrong in [
            "",
            "hunter2",
            "sha256#hunter2#",
            "$2",
            "$argon2id$",
            &BIP[1..],
            "ää",
        ] {
            assert!(Form::parse(wrong).is_none(), "{wrong}");
        }
        assert!(!verify(b"hunter2", "hunter2"));
    }

    #[test]
    fn a_hash_may_not_cost_what_it_likes() {
        let dear = ARGON2.replace("m=65536", "m=4194304");
        assert!(Form::parse(&dear).is_none());
        assert!(Form::parse(&ARGON2.replace("t=2", "t=4000000")).is_none());
        assert!(Form::parse(&BCRYPT.replace("$06$", "$31$")).is_none());
    }

    #[test]
    fn only_hashes_as_strong_as_ours_are_current() {
        assert!(is_current(&hash(b"x")));
        assert!(is_current(ARGON2));
        let weak = ARGON2.replace("m=65536", "m=6144");
        for old in [BIP, ZNC, BCRYPT, weak.as_str()] {
            assert!(!is_current(old), "{old}");
        }
    }

    #[test]
    fn each_answer_costs_an_argon2_hash() {
        for hash in [None, Some(BIP), Some(ZNC), Some("nonsense")] {
            let mut memory = Memory::default();
            check(b"x", hash, &mut memory);
            assert_eq!(memory.0.len(), COST.0 as usize, "{hash:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_apart_without_a_panic(text in ".{0,80}") {
            let _ = Form::parse(&text);
        }

        #[test]
        fn hex_is_undone(bytes: [u8; 16]) {
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(unhex::<16>(&text), Some(bytes));
            prop_assert_eq!(unhex::<15>(&text), None);
        }
    }

    #[tokio::test]
    async fn the_threads_answer_as_the_functions_do() {
        let hasher = Hasher::start().unwrap();
        let made = hasher.hash(b"secret").await.unwrap();
        let (right, wrong, nobody) = tokio::join!(
            hasher.verify(b"secret", Some(&made)),
            hasher.verify(b"Secret", Some(&made)),
            hasher.verify(b"secret", None),
        );
        assert!(right && !wrong && !nobody);
    }

    /// Keeps both threads at work until the sender is dropped.
    fn occupy(hasher: &Hasher) -> Vec<mpsc::Sender<()>> {
        let block = |_| {
            let (release, wait) = mpsc::channel::<()>();
            hasher
                .threads
                .0
                .push(Box::new(move |_| wait.recv().unwrap_or_default()));
            release
        };
        (0..Hasher::WIDTH).map(block).collect()
    }

    #[tokio::test]
    async fn who_leaves_costs_nothing() {
        let hasher = Hasher::start().unwrap();
        let blockers = occupy(&hasher);
        let worked = Arc::new(AtomicBool::new(false));
        for _ in 0..5 {
            // The first two of these get as far as the queue, the others wait for their turn.
            let worked = Arc::clone(&worked);
            let run = hasher.run(move |_| worked.store(true, Ordering::SeqCst));
            let left = tokio::time::timeout(Duration::ZERO, run).await;
            assert!(left.is_err());
        }
        drop(blockers);
        assert_eq!(
            hasher.run(|_| 7).await,
            Some(7),
            "the places are free again"
        );
        assert!(!worked.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn more_callers_than_threads_all_get_their_turn() {
        let hasher = Hasher::start().unwrap();
        let calls: Vec<_> = (0..100)
            .map(|n| {
                let hasher = hasher.clone();
                tokio::spawn(async move { hasher.run(move |_| n).await })
            })
            .collect();
        for (n, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.unwrap(), Some(n));
        }
    }

    #[tokio::test]
    async fn a_panic_ends_neither_thread() {
        let hasher = Hasher::start().unwrap();
        for _ in 0..4 {
            assert_eq!(
                hasher.run(|_| -> u8 { panic!("part of the test") }).await,
                None
            );
        }
        assert_eq!(hasher.run(|_| 7).await, Some(7));
    }

    #[test]
    fn the_threads_end_with_the_last_clone() {
        let hasher = Hasher::start().unwrap();
        let queue: Weak<Queue> = Arc::downgrade(&hasher.threads.0);
        let clone = hasher.clone();
        drop(hasher);
        assert!(!queue.upgrade().expect("a clone is left").lock().closed);
        drop(clone);
        let began = Instant::now();
        while queue.strong_count() > 0 {
            assert!(
                began.elapsed() < Duration::from_secs(10),
                "the threads go on"
            );
            thread::yield_now();
        }
    }
}

//! A disk that fails, is slow, or loses power, under SQLite: a VFS over the real one. It is the default of the process, so
//! that the store needs to know nothing of it, and touches only files in folders that have a [`Disk`]. Of each file it keeps
//! what is synced and what was written since; a cut is what a disk may hold then: the synced part, and of the rest nothing,
//! all, or any of it, torn at sectors.

#![allow(unsafe_code)]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;
use std::{fs, ptr, slice, thread};

use rusqlite::ffi::{
    SQLITE_CANTOPEN, SQLITE_FULL, SQLITE_IOERR_FSYNC, SQLITE_IOERR_TRUNCATE, SQLITE_IOERR_WRITE,
    SQLITE_OK, sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs, sqlite3_vfs_find,
    sqlite3_vfs_register,
};

/// A write is torn here.
const SECTOR: usize = 512;

/// The files of one folder.
#[derive(Default)]
pub struct Disk(Mutex<State>);

#[derive(Default)]
struct State {
    /// Calls that open, write, truncate or sync, so far.
    calls: u64,
    fails: Range<u64>,
    delay: Duration,
    files: BTreeMap<String, Shadow>,
    cuts: VecDeque<u64>,
    seed: u64,
    floor: Option<Box<dyn Fn() -> Vec<u64> + Send>>,
    images: Vec<Image>,
}

/// What a disk may hold after a cut.
pub struct Image {
    /// After so many calls.
    pub call: u64,
    /// What [`Disk::floor`] said then.
    pub floor: Vec<u64>,
    files: Vec<(String, Vec<u8>)>,
}

#[derive(Default)]
struct Shadow {
    synced: Vec<u8>,
    since: Vec<Change>,
}

enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, new) => {
                let end = at + new.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*at..end].copy_from_slice(new);
            }
            Self::Truncate(length) => bytes.truncate(*length),
        }
    }

    /// Its part up to a sector.
    fn torn(&self, random: u64) -> Self {
        match self {
            Self::Write(at, new) => {
                let sectors = usize::try_from(random).unwrap() % (new.len() / SECTOR + 1);
                Self::Write(*at, new[..sectors * SECTOR].to_vec())
            }
            Self::Truncate(length) => Self::Truncate(*length),
        }
    }
}

impl Image {
    /// Writes it into a folder.
    pub fn write(&self, folder: &Path) {
        for (name, bytes) in &self.files {
            fs::write(folder.join(name), bytes).unwrap();
        }
    }
}

impl Disk {
    /// The disk of a folder, from now on, as long as it is not dropped.
    pub fn new(folder: &Path, seed: u64) -> Arc<Self> {
        register();
        let disk = Arc::new(Self::default());
        disk.lock().seed = seed;
        let folder = fs::canonicalize(folder).unwrap();
        disks().insert(folder, Arc::clone(&disk));
        disk
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These calls fail.
    pub fn fail(&self, calls: Range<u64>) {
        self.lock().fails = calls;
    }

    /// Every write and sync takes so long.
    pub fn delay(&self, span: Duration) {
        self.lock().delay = span;
    }

    /// The power is cut at these calls, in order; what goes on afterwards is another story.
    pub fn cut(&self, calls: impl IntoIterator<Item = u64>) {
        self.lock().cuts = calls.into_iter().collect();
    }

    /// Says what must be on the disk when the power is cut.
    pub fn floor(&self, floor: impl Fn() -> Vec<u64> + Send + 'static) {
        self.lock().floor = Some(Box::new(floor));
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// What the cuts left.
    pub fn take_images(&self) -> Vec<Image> {
        std::mem::take(&mut self.lock().images)
    }

    /// Counts a call; whether it is to fail.
    fn call(&self) -> bool {
        let mut state = self.lock();
        let delay = state.delay;
        state.calls += 1;
        let call = state.calls;
        if state.cuts.front().is_some_and(|cut| *cut <= call) {
            state.cuts.pop_front();
            state.take_image();
        }
        let fails = state.fails.contains(&call);
        drop(state);
        thread::sleep(delay);
        fails
    }

    /// A random number of this disk.
    fn random(&self) -> u64 {
        self.lock().random()
    }

    fn change(&self, name: &str, change: Change) {
        let mut state = self.lock();
        let shadow = state.files.entry(name.into()).or_default();
        shadow.since.push(change);
    }

    fn synced(&self, name: &str) {
        let mut state = self.lock();
        let Shadow { synced, since } = state.files.entry(name.into()).or_default();
        since.drain(..).for_each(|change| change.apply(synced));
    }
}

impl State {
    /// splitmix64
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn take_image(&mut self) {
        let kind = self.random() % 4;
        let files = std::mem::take(&mut self.files);
        let mut image = Vec::new();
        for (name, shadow) in &files {
            if name.ends_with("-shm") {
                continue; // it lives in memory
            }
            let mut bytes = shadow.synced.clone();
            for change in &shadow.since {
                let (keep, tear) = (self.random(), self.random());
                match kind {
                    0 => {}
                    1 => change.apply(&mut bytes),
                    _ if keep % 2 == 0 => {}
                    2 => change.apply(&mut bytes),
                    _ => change.torn(tear).apply(&mut bytes),
                }
            }
            image.push((name.clone(), bytes));
        }
        self.files = files;
        let floor = self.floor.as_ref().map(|floor| floor()).unwrap_or_default();
        self.images.push(Image {
            call: self.calls,
            floor,
            files: image,
        });
    }
}

fn disks() -> MutexGuard<'static, HashMap<PathBuf, Arc<Disk>>> {
    static DISKS: LazyLock<Mutex<HashMap<PathBuf, Arc<Disk>>>> = LazyLock::new(Mutex::default);
    DISKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The folder has no disk any more.
pub fn remove(folder: &Path) {
    disks().remove(&fs::canonicalize(folder).unwrap());
}

/// The disk and the name of a file, if its folder has one.
fn disk_of(path: *const c_char) -> Option<(Arc<Disk>, String, PathBuf)> {
    if path.is_null() {
        return None;
    }
    // SAFETY: SQLite gives names that end with NUL.
    let path = Path::new(OsStr::from_bytes(
        unsafe { CStr::from_ptr(path) }.to_bytes(),
    ));
    let disk = Arc::clone(disks().get(path.parent()?)?);
    let name = path.file_name()?.to_str()?.to_owned();
    Some((disk, name, path.into()))
}

// What SQLite calls.

/// The real VFS.
struct Real(*mut sqlite3_vfs);

// SAFETY: the VFS of the system lives as long as the process and may be called from any thread.
unsafe impl Send for Real {}
// SAFETY: as above.
unsafe impl Sync for Real {}

fn real() -> *mut sqlite3_vfs {
    // SAFETY: a name that ends with NUL; the answer lives as long as the process.
    static REAL: LazyLock<Real> =
        LazyLock::new(|| Real(unsafe { sqlite3_vfs_find(c"unix".as_ptr()) }));
    REAL.0
}

/// Behind what the real VFS keeps of an open file.
struct Open {
    disk: Arc<Disk>,
    name: String,
    real: *const sqlite3_io_methods,
    methods: sqlite3_io_methods,
}

fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let real = real();
        // SAFETY: `real` is a VFS, a plain structure. The copy is leaked, hence lives as long as SQLite may use it.
        unsafe {
            let mut ours = *real;
            ours.szOsFile += c_int::try_from(size_of::<*mut Open>()).unwrap();
            ours.zName = c"faulty".as_ptr();
            ours.pNext = ptr::null_mut();
            ours.xOpen = Some(open);
            ours.xDelete = Some(delete);
            assert_eq!(
                sqlite3_vfs_register(Box::leak(Box::new(ours)), 1),
                SQLITE_OK
            );
        }
    });
}

/// Where the pointer to [`Open`] lies.
///
/// # Safety
/// The file must be one of ours.
unsafe fn place_of(file: *mut sqlite3_file) -> *mut *mut Open {
    // SAFETY: `szOsFile` bytes belong to the real VFS, those after them to us.
    unsafe {
        file.byte_add(usize::try_from((*real()).szOsFile).unwrap())
            .cast()
    }
}

/// # Safety
/// The file must be one of ours, and open.
unsafe fn opened<'a>(file: *mut sqlite3_file) -> &'a Open {
    // SAFETY: `open` has put it there, and `close` has not been called.
    unsafe { &**place_of(file) }
}

unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    path: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    let disk = disk_of(path);
    let is_shared = disk
        .as_ref()
        .is_some_and(|(_, name, _)| name.ends_with("-shm"));
    if let Some((disk, ..)) = &disk
        && !is_shared
        && disk.call()
    {
        // SAFETY: SQLite looks here to see whether the file is to be closed.
        unsafe { (*file).pMethods = ptr::null() };
        return SQLITE_CANTOPEN;
    }
    if let Some((disk, name, path)) = &disk {
        let mut state = disk.lock();
        if !state.files.contains_key(name) {
            let synced = fs::read(path).unwrap_or_default();
            let shadow = Shadow {
                synced,
                since: Vec::new(),
            };
            state.files.insert(name.clone(), shadow);
        }
    }
    // SAFETY: what SQLite gave us is passed on; there is room for our pointer behind the real file.
    unsafe {
        let code = (*real()).xOpen.unwrap()(real(), path, file, flags, out);
        if code != SQLITE_OK || (*file).pMethods.is_null() {
            return code;
        }
        let Some((disk, name, _)) = disk else {
            *place_of(file) = ptr::null_mut();
            return code;
        };
        let methods = sqlite3_io_methods {
            xClose: Some(close),
            xWrite: Some(write),
            xTruncate: Some(truncate),
            xSync: Some(sync),
            ..*(*file).pMethods
        };
        let open = Box::into_raw(Box::new(Open {
            disk,
            name,
            real: (*file).pMethods,
            methods,
        }));
        *place_of(file) = open;
        (*file).pMethods = &raw const (*open).methods;
        code
    }
}

unsafe extern "C" fn delete(_: *mut sqlite3_vfs, path: *const c_char, sync: c_int) -> c_int {
    if let Some((disk, name, _)) = disk_of(path) {
        disk.lock().files.remove(&name);
    }
    // SAFETY: passed on.
    unsafe { (*real()).xDelete.unwrap()(real(), path, sync) }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: `open` made it, and nobody uses the file after this.
    unsafe {
        let open = Box::from_raw(*place_of(file));
        (*open.real).xClose.unwrap()(file)
    }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    bytes: *const c_void,
    count: c_int,
    at: sqlite3_int64,
) -> c_int {
    // SAFETY: the file is open, and SQLite gives `count` bytes.
    let (open, given) = unsafe {
        let count = usize::try_from(count).unwrap();
        (
            opened(file),
            slice::from_raw_parts(bytes.cast::<u8>(), count),
        )
    };
    let fails = open.disk.call();
    // What fails may have been done by half.
    let done = match fails {
        true if open.disk.random().is_multiple_of(2) => given.len() / 2,
        true => 0,
        false => given.len(),
    };
    let change = Change::Write(usize::try_from(at).unwrap(), given[..done].to_vec());
    open.disk.change(&open.name, change);
    // SAFETY: no more bytes than SQLite gave us.
    let code =
        unsafe { (*open.real).xWrite.unwrap()(file, bytes, c_int::try_from(done).unwrap(), at) };
    match fails {
        true if open.disk.random().is_multiple_of(3) => SQLITE_FULL,
        true => SQLITE_IOERR_WRITE,
        false => code,
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, length: sqlite3_int64) -> c_int {
    // SAFETY: the file is open.
    let open = unsafe { opened(file) };
    if open.disk.call() {
        return SQLITE_IOERR_TRUNCATE;
    }
    let change = Change::Truncate(usize::try_from(length).unwrap());
    open.disk.change(&open.name, change);
    // SAFETY: passed on.
    unsafe { (*open.real).xTruncate.unwrap()(file, length) }
}

/// Nothing is synced in truth: what counts is what we keep.
unsafe extern "C" fn sync(file: *mut sqlite3_file, _: c_int) -> c_int {
    // SAFETY: the file is open.
    let open = unsafe { opened(file) };
    if open.disk.call() {
        return SQLITE_IOERR_FSYNC;
    }
    open.disk.synced(&open.name);
    SQLITE_OK
}

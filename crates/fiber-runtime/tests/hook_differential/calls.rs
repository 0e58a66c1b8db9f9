//! The calls: what they are made on, what a seed makes of them, and what comes of each.

use std::fmt::Write as _;
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::ptr;
use std::time::{Duration, Instant};

/// Found beneath every successful call: the hooks must leave it.
const UNTOUCHED: i32 = 4095;
/// A number that nobody has open.
pub(crate) const CLOSED: RawFd = 999_999;
/// More than any of the buffers hold.
const LARGE: usize = 6 << 20;

/// What the calls are made on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    UnixStream,
    UnixDatagram,
    UnixPacket,
    Tcp,
    Udp,
    Pipe,
    NamedPipe,
    Counter,
    Semaphore,
    File,
}

impl Family {
    const ALL: [Family; 10] = [
        Family::UnixStream,
        Family::UnixDatagram,
        Family::UnixPacket,
        Family::Tcp,
        Family::Udp,
        Family::Pipe,
        Family::NamedPipe,
        Family::Counter,
        Family::Semaphore,
        Family::File,
    ];

    pub(crate) fn is_socket(self) -> bool {
        !matches!(self, Family::Pipe | Family::NamedPipe | Family::Counter | Family::Semaphore | Family::File)
    }

    pub(crate) fn is_counter(self) -> bool {
        matches!(self, Family::Counter | Family::Semaphore)
    }

    pub(crate) fn has_messages(self) -> bool {
        matches!(self, Family::UnixDatagram | Family::UnixPacket | Family::Udp)
    }

    /// Two new descriptors, connected where that means something.
    pub(crate) fn open(self) -> [RawFd; 2] {
        fn raw<T: Into<OwnedFd>>(both: (T, T)) -> [RawFd; 2] {
            [both.0.into().into_raw_fd(), both.1.into().into_raw_fd()]
        }
        match self {
            Family::UnixStream => raw(UnixStream::pair().unwrap()),
            Family::UnixDatagram => raw(UnixDatagram::pair().unwrap()),
            Family::UnixPacket => {
                raw(socket2::Socket::pair(socket2::Domain::UNIX, socket2::Type::SEQPACKET, None).unwrap())
            }
            Family::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let other = listener.accept().unwrap().0;
                one.set_nodelay(true).unwrap();
                other.set_nodelay(true).unwrap();
                raw((one, other))
            }
            Family::Udp => {
                let one = UdpSocket::bind("127.0.0.1:0").unwrap();
                let other = UdpSocket::bind("127.0.0.1:0").unwrap();
                one.connect(other.local_addr().unwrap()).unwrap();
                other.connect(one.local_addr().unwrap()).unwrap();
                raw((one, other))
            }
            Family::Pipe => {
                let (reader, writer) = io::pipe().unwrap();
                [reader.into_raw_fd(), writer.into_raw_fd()]
            }
            Family::NamedPipe => {
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().join("pipe");
                let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
                // SAFETY: the name ends in a zero byte.
                assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
                let both = std::fs::File::options().read(true).write(true).open(&path).unwrap();
                let writer = std::fs::File::options().write(true).open(&path).unwrap();
                let reader = std::fs::File::open(&path).unwrap();
                drop(both);
                raw((reader, writer))
            }
            Family::Counter | Family::Semaphore => {
                let flags = if self == Family::Semaphore { libc::EFD_SEMAPHORE } else { 0 };
                // SAFETY: plain numbers; the descriptors are new.
                let fd = unsafe { libc::eventfd(0, flags) };
                // SAFETY: as above.
                [fd, unsafe { libc::dup(fd) }]
            }
            Family::File => {
                let file = tempfile::tempfile().unwrap();
                raw((file.try_clone().unwrap(), file))
            }
        }
    }
}

/// One call. Lengths are of buffers; a message has several.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Recv(usize, i32),
    RecvFrom(usize, i32),
    RecvMsg(Vec<usize>, i32),
    Send(usize, i32),
    SendMsg(Vec<usize>, i32),
    Read(usize),
    Readv(Vec<usize>),
    Write(usize),
    Writev(Vec<usize>),
    /// A counter's number.
    Add(u64),
    /// As many buffers as that, of one byte each: also more than the kernel takes, and fewer than none.
    ReadvCount(i32),
    WritevCount(i32),
    /// A length that is no length, and memory that is not there.
    ReadBad,
    WriteBad(usize),
    Poll(i16, i32),
    Select(bool, i64),
    NonBlocking(bool, bool),
    TimeLimit(i32, i64),
    Shutdown(i32),
    Duplicate,
    Close,
    Seek(i64),
}

/// A call on one of the two descriptors, or on none that is open.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) side: usize,
    pub(crate) open: bool,
    pub(crate) call: Call,
    /// It has a time limit of its own: nobody comes to its help.
    pub(crate) limited: bool,
    /// How often a part arrives is up to the kernel: only all of it together is compared.
    pub(crate) large: bool,
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    fn length(&mut self) -> usize {
        match self.below(8) {
            0 => 0,
            1 => 1,
            2 => 4096,
            3 => 5000,
            _ => 2 + self.below(60),
        }
    }

    fn lengths(&mut self) -> Vec<usize> {
        (0..1 + self.below(5)).map(|_| self.length()).collect()
    }
}

/// The calls of a seed.
pub(crate) fn generate(seed: u64) -> (Family, Vec<Step>) {
    let mut random = Random(seed);
    let family = Family::ALL[seed as usize % Family::ALL.len()];
    let mut nonblocking = [false; 2];
    let mut limits = [[0_i64; 2]; 2];
    let count = 10 + random.below(30);
    let mut steps = Vec::with_capacity(count);
    for number in 0..count {
        let side = match family {
            // Most calls have a side on which they make sense.
            Family::Pipe | Family::NamedPipe if !random.one_in(8) => 2,
            _ => random.below(2),
        };
        let late = number + 6 > count;
        let call = match random.below(100) {
            0..70 => transfer(&mut random, family, side),
            70..76 => Call::Poll(
                random.pick(&[libc::POLLIN, libc::POLLOUT, libc::POLLIN | libc::POLLOUT, libc::POLLRDHUP]),
                random.pick(&[0, 0, 2]),
            ),
            76..79 => Call::Select(random.one_in(2), random.pick(&[0, 2])),
            79..84 => Call::NonBlocking(random.one_in(3), random.one_in(2)),
            84..88 if family.is_socket() => {
                Call::TimeLimit(random.pick(&[libc::SO_RCVTIMEO, libc::SO_SNDTIMEO]), random.pick(&[0, 4, 8]))
            }
            88..92 => Call::Duplicate,
            92..94 if late && family.is_socket() => {
                Call::Shutdown(random.pick(&[libc::SHUT_RD, libc::SHUT_WR, libc::SHUT_RDWR]))
            }
            94..96 if late => Call::Close,
            96 => Call::ReadvCount(random.pick(&[-1, 0, 1, 70, 1024, 1025])),
            97 if family.is_counter() => Call::WritevCount(random.pick(&[-1, 0, 1025])),
            97 => Call::WritevCount(random.pick(&[-1, 0, 1, 70, 1024, 1025])),
            98 => Call::ReadBad,
            99 if family.is_counter() => Call::WriteBad(usize::MAX),
            99 => Call::WriteBad(random.pick(&[0, 8, usize::MAX])),
            _ => transfer(&mut random, family, side),
        };
        let receives = call.receives();
        let side = match (side, receives) {
            (2, Some(true)) => 0,
            (2, _) => 1,
            (side, _) => side,
        };
        // What two descriptors of one file have in common.
        let shared = |side: usize| if family.is_counter() || family == Family::File { 0 } else { side };
        let open = !random.one_in(50);
        match call {
            _ if !open => {}
            Call::NonBlocking(on, _) => nonblocking[shared(side)] = on,
            Call::TimeLimit(libc::SO_RCVTIMEO, millis) => limits[side][0] = millis,
            Call::TimeLimit(_, millis) => limits[side][1] = millis,
            _ => {}
        }
        let limited = nonblocking[shared(side)]
            || match receives {
                Some(receives) => limits[side][usize::from(!receives)] != 0,
                None => true,
            };
        let mut step = Step { side, open, call, limited, large: false };
        // As long as somebody comes to take it away, or room is counted in the same way each time. (The hook writes to a
        // named pipe in pieces, which fill its pages differently.)
        let countable = matches!(family, Family::UnixStream | Family::Pipe);
        let emptied = !limited && matches!(family, Family::Tcp | Family::NamedPipe);
        if random.one_in(12) && (emptied || countable) {
            step.large = step.call.enlarge();
        }
        let parts = matches!(step.call, Call::Close | Call::Shutdown(_));
        steps.push(step);
        if parts && (family.has_messages() || family.is_counter()) {
            // Who waits for a datagram of a socket that is gone waits for ever.
            break;
        }
    }
    (family, steps)
}

/// Bytes from here to there.
fn transfer(random: &mut Random, family: Family, side: usize) -> Call {
    let flags = |random: &mut Random, among: &[i32]| {
        among.iter().fold(0, |all, flag| if random.one_in(6) { all | flag } else { all })
    };
    if family.is_counter() && random.one_in(2) {
        // A semaphore that is full is emptied one by one. What is not a number to add (0, the greatest) is left out: for it
        // alone the kernel does not care whether the counter has room.
        let most = if family == Family::Semaphore { 4 } else { u64::MAX - 1 };
        return Call::Add(random.pick(&[1, 1, 1, 2, 3, 1000, most]));
    }
    if family == Family::File && random.one_in(4) {
        return Call::Seek(random.below(3000) as i64);
    }
    let of_sockets = family.is_socket() || random.one_in(20);
    let receives = if side == 2 { random.one_in(2) } else { random.below(7) < 3 };
    match (receives, of_sockets, random.below(5)) {
        (true, true, 0) => {
            Call::RecvFrom(random.length(), flags(random, &[libc::MSG_DONTWAIT, libc::MSG_PEEK]))
        }
        (true, true, 1) => Call::RecvMsg(
            random.lengths(),
            flags(random, &[libc::MSG_DONTWAIT, libc::MSG_PEEK, libc::MSG_WAITALL, libc::MSG_TRUNC]),
        ),
        (true, true, 2) => Call::Recv(
            random.length(),
            flags(random, &[libc::MSG_DONTWAIT, libc::MSG_PEEK, libc::MSG_WAITALL, libc::MSG_TRUNC]),
        ),
        (true, _, 3) => Call::Readv(random.lengths()),
        (true, _, _) => Call::Read(random.length()),
        // The same holds for lengths that are not a number's.
        (false, _, 2 | 3) if family == Family::Counter => Call::Writev(vec![8]),
        (false, _, _) if family.is_counter() => Call::Write(0),
        (false, true, 0) => Call::Send(random.length(), flags(random, &[libc::MSG_DONTWAIT])),
        (false, true, 1) => Call::SendMsg(random.lengths(), flags(random, &[libc::MSG_DONTWAIT])),
        (false, _, 2 | 3) => Call::Writev(random.lengths()),
        (false, _, _) => Call::Write(random.length()),
    }
}

impl Call {
    /// Whether it may wait for bytes, or for room; `None` for neither.
    pub(crate) fn receives(&self) -> Option<bool> {
        match self {
            Call::Recv(_, flags) | Call::RecvFrom(_, flags) | Call::RecvMsg(_, flags) => {
                (flags & libc::MSG_DONTWAIT == 0).then_some(true)
            }
            Call::Send(_, flags) | Call::SendMsg(_, flags) => {
                (flags & libc::MSG_DONTWAIT == 0).then_some(false)
            }
            Call::Read(_) | Call::Readv(_) | Call::ReadvCount(_) | Call::ReadBad => Some(true),
            Call::Write(_) | Call::Writev(_) | Call::WritevCount(_) | Call::WriteBad(_) | Call::Add(_) => {
                Some(false)
            }
            _ => None,
        }
    }

    /// Makes it send more than fits.
    fn enlarge(&mut self) -> bool {
        match self {
            Call::Send(length, _) | Call::Write(length) => *length = LARGE,
            Call::SendMsg(lengths, _) | Call::Writev(lengths) => lengths.insert(1, LARGE),
            _ => return false,
        }
        true
    }
}

/// How the kernel is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// By number.
    SystemCall,
    /// By the libc symbol.
    Symbol,
}

/// Makes a call and describes what came of it.
pub(crate) fn perform(door: Door, fd: RawFd, call: &Call, stamp: u8) -> String {
    let mut text = String::new();
    let symbol = door == Door::Symbol;
    let buffers = |lengths: &[usize], fill: bool| -> Vec<Vec<u8>> {
        let byte = |at: usize| if fill { stamp.wrapping_add(at as u8) } else { 0xAA };
        lengths.iter().map(|&length| (0..length).map(byte).collect()).collect()
    };
    let vectors = |buffers: &mut [Vec<u8>]| -> Vec<libc::iovec> {
        buffers
            .iter_mut()
            .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() })
            .collect()
    };
    let started = Instant::now();
    let mut outcome = |result: i64| {
        let error = io::Error::last_os_error().raw_os_error().unwrap();
        let _ = write!(text, "= {result} ({error})");
    };
    /// Makes the call by its symbol or by its number.
    macro_rules! call {
        ($name:ident, $number:expr, $($argument:expr),*) => {{
            // SAFETY: `errno` is this thread's.
            unsafe { *libc::__errno_location() = UNTOUCHED };
            let result = if symbol {
                // SAFETY: the arguments are buffers of this function with their lengths, or wrong in ways that the
                // kernel answers with an error; descriptors are the test's own.
                unsafe { libc::$name(fd, $($argument),*) as i64 }
            } else {
                // SAFETY: as above.
                unsafe { libc::syscall($number, fd, $($argument),*) }
            };
            outcome(result);
            result
        }};
    }
    match call {
        Call::Recv(length, flags) => {
            let mut room = buffers(&[*length], false);
            let start: *mut libc::c_void = room[0].as_mut_ptr().cast();
            if symbol {
                call!(recv, 0, start, *length, *flags);
            } else {
                call!(
                    recvfrom,
                    libc::SYS_recvfrom,
                    start,
                    *length,
                    *flags,
                    ptr::null_mut::<libc::sockaddr>(),
                    ptr::null_mut::<libc::socklen_t>()
                );
            }
            note(&mut text, &room);
        }
        Call::RecvFrom(length, flags) => {
            let mut room = buffers(&[*length], false);
            let start: *mut libc::c_void = room[0].as_mut_ptr().cast();
            let mut address = [0_u8; 128];
            let mut address_length: libc::socklen_t = 128;
            call!(
                recvfrom,
                libc::SYS_recvfrom,
                start,
                *length,
                *flags,
                address.as_mut_ptr().cast::<libc::sockaddr>(),
                &raw mut address_length
            );
            note(&mut text, &room);
            let _ = write!(text, " from {address_length}, {}", address[0]);
        }
        Call::RecvMsg(lengths, flags) => {
            let mut room = buffers(lengths, false);
            let mut vectors = vectors(&mut room);
            // SAFETY: a message of zeros is valid.
            let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
            message.msg_iov = vectors.as_mut_ptr();
            message.msg_iovlen = vectors.len();
            call!(recvmsg, libc::SYS_recvmsg, &raw mut message, *flags);
            note(&mut text, &room);
            let _ = write!(text, " flags {:x}", message.msg_flags);
        }
        Call::Send(length, flags) => {
            let bytes = buffers(&[*length], true);
            let start: *const libc::c_void = bytes[0].as_ptr().cast();
            let flags = *flags | libc::MSG_NOSIGNAL;
            if symbol {
                call!(send, 0, start, *length, flags);
            } else {
                call!(sendto, libc::SYS_sendto, start, *length, flags, ptr::null::<libc::sockaddr>(), 0);
            }
        }
        Call::SendMsg(lengths, flags) => {
            let mut bytes = buffers(lengths, true);
            let mut vectors = vectors(&mut bytes);
            // SAFETY: a message of zeros is valid.
            let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
            message.msg_iov = vectors.as_mut_ptr();
            message.msg_iovlen = vectors.len();
            call!(sendmsg, libc::SYS_sendmsg, &raw const message, *flags | libc::MSG_NOSIGNAL);
        }
        Call::Read(length) => {
            let mut room = buffers(&[*length], false);
            let start: *mut libc::c_void = room[0].as_mut_ptr().cast();
            call!(read, libc::SYS_read, start, *length);
            note(&mut text, &room);
        }
        Call::Readv(lengths) => {
            let mut room = buffers(lengths, false);
            let vectors = vectors(&mut room);
            call!(readv, libc::SYS_readv, vectors.as_ptr(), vectors.len() as i32);
            note(&mut text, &room);
        }
        Call::Write(length) => {
            let bytes = buffers(&[*length], true);
            let start: *const libc::c_void = bytes[0].as_ptr().cast();
            call!(write, libc::SYS_write, start, *length);
        }
        Call::Writev(lengths) => {
            let mut bytes = buffers(lengths, true);
            let vectors = vectors(&mut bytes);
            call!(writev, libc::SYS_writev, vectors.as_ptr(), vectors.len() as i32);
        }
        Call::Add(number) => {
            call!(write, libc::SYS_write, (&raw const *number).cast::<libc::c_void>(), 8_usize);
        }
        Call::ReadvCount(count) => {
            let mut room = buffers(&[1; 1100], false);
            let vectors = vectors(&mut room);
            call!(readv, libc::SYS_readv, vectors.as_ptr(), *count);
            note(&mut text, &room);
        }
        Call::WritevCount(count) => {
            let mut bytes = buffers(&[1; 1100], true);
            let vectors = vectors(&mut bytes);
            call!(writev, libc::SYS_writev, vectors.as_ptr(), *count);
        }
        Call::ReadBad => {
            let nowhere = ptr::null_mut::<libc::c_void>();
            call!(read, libc::SYS_read, nowhere, usize::MAX);
        }
        Call::WriteBad(length) => {
            let nowhere = ptr::null::<libc::c_void>();
            call!(write, libc::SYS_write, nowhere, *length);
        }
        Call::Poll(events, millis) => {
            let mut entry = libc::pollfd { fd, events: *events, revents: 0 };
            let limit = libc::timespec { tv_sec: 0, tv_nsec: i64::from(*millis) * 1_000_000 };
            // SAFETY: `errno` is this thread's.
            unsafe { *libc::__errno_location() = UNTOUCHED };
            // SAFETY: the entry and the time live through the call.
            let result = unsafe {
                if symbol {
                    i64::from(libc::poll(&raw mut entry, 1, *millis))
                } else {
                    let mask = ptr::null::<libc::sigset_t>();
                    libc::syscall(libc::SYS_ppoll, &raw mut entry, 1_usize, &raw const limit, mask, 8_usize)
                }
            };
            outcome(result);
            let waited = result == 0 && started.elapsed() >= Duration::from_millis(*millis as u64);
            let _ = write!(text, " {:x} {waited}", entry.revents);
        }
        Call::Select(reading, millis) => {
            let number = if fd < libc::FD_SETSIZE as i32 { fd } else { 0 };
            // SAFETY: a set of zeros is an empty one, the number is below its size, and all live through the call.
            let (result, set) = unsafe {
                let mut set: libc::fd_set = std::mem::zeroed();
                if fd == number {
                    libc::FD_SET(number, &raw mut set);
                }
                *libc::__errno_location() = UNTOUCHED;
                let (read, write) = match reading {
                    true => (&raw mut set, ptr::null_mut()),
                    false => (ptr::null_mut(), &raw mut set),
                };
                let result = if symbol {
                    let mut limit = libc::timeval { tv_sec: 0, tv_usec: *millis * 1000 };
                    i64::from(libc::select(number + 1, read, write, ptr::null_mut(), &raw mut limit))
                } else {
                    let limit = libc::timespec { tv_sec: 0, tv_nsec: *millis * 1_000_000 };
                    let none = ptr::null_mut::<libc::fd_set>();
                    libc::syscall(
                        libc::SYS_pselect6,
                        number + 1,
                        read,
                        write,
                        none,
                        &raw const limit,
                        0_usize,
                    )
                };
                (result, libc::FD_ISSET(number, &raw const set))
            };
            outcome(result);
            let _ = write!(text, " {set}");
        }
        Call::NonBlocking(on, by_ioctl) if *by_ioctl => {
            let mut on = i32::from(*on);
            call!(ioctl, libc::SYS_ioctl, libc::FIONBIO, &raw mut on);
        }
        Call::NonBlocking(on, _) => {
            let before = call!(fcntl, libc::SYS_fcntl, libc::F_GETFL, 0);
            if before >= 0 {
                let after = before as i32 & !libc::O_NONBLOCK | if *on { libc::O_NONBLOCK } else { 0 };
                let mut outcome = |result: i64| {
                    let _ = write!(text, " {result}");
                };
                // SAFETY: F_SETFL changes flags of a descriptor of the test's own.
                outcome(i64::from(unsafe { libc::fcntl(fd, libc::F_SETFL, after) }));
            }
        }
        Call::TimeLimit(option, millis) => {
            let value = libc::timeval { tv_sec: 0, tv_usec: millis * 1000 };
            call!(
                setsockopt,
                libc::SYS_setsockopt,
                libc::SOL_SOCKET,
                *option,
                (&raw const value).cast::<libc::c_void>(),
                size_of::<libc::timeval>() as libc::socklen_t
            );
        }
        Call::Shutdown(how) => {
            call!(shutdown, libc::SYS_shutdown, *how);
        }
        Call::Seek(to) => {
            call!(lseek, libc::SYS_lseek, *to, libc::SEEK_SET);
        }
        // The director's, for they change the descriptors.
        Call::Duplicate | Call::Close => {}
    }
    text
}

/// The buffers' whole contents, also where nothing should have been written.
pub(crate) fn note(text: &mut String, buffers: &[Vec<u8>]) {
    let bytes = buffers.iter().flatten();
    let sum = bytes.fold(17_u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let _ = write!(text, " {sum:x}");
}

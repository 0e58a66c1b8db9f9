//! The syntax of `select!`: the arms become locals, one call chooses, the chosen one's outcome leaves their scope, and
//! only then runs its body, to which nothing is borrowed any more.

/// Waits for several operations and runs the body of the one that happens.
///
/// [`sync::select`](crate::sync::select) has the list of arms and what holds for them.
///
/// ```
/// use fiber_runtime::{select, sync::channel, time};
/// use std::time::Duration;
///
/// let (requests, incoming) = channel::bounded::<u32>(8);
/// let (replies, outgoing) = channel::bounded::<u32>(1);
/// requests.send(20).unwrap();
///
/// // A stage between two channels: reads only while it has nothing to write, and never waits for one side alone.
/// let mut pending = None;
/// let deadline = time::now() + Duration::from_secs(5);
/// let answer = loop {
///     select! {
///         request = recv(incoming) if pending.is_none() => pending = request.ok().map(|request| request + 1),
///         sent = send(replies, pending.take().unwrap()) if pending.is_some() => {
///             assert!(sent.is_ok());
///             break outgoing.recv();
///         }
///         at(deadline) => panic!("timed out"),
///     }
/// };
/// assert_eq!(answer, Ok(21));
///
/// // With `default` it never waits.
/// let found = select! {
///     value = recv(outgoing) => value.ok(),
///     default => None,
/// };
/// assert_eq!(found, None);
/// ```
#[macro_export]
macro_rules! select {
    (biased; $($arms:tt)+) => { $crate::__select_arms!(Biased [] $($arms)+) };
    ($($arms:tt)+) => { $crate::__select_arms!(Fair [] $($arms)+) };
}

/// Takes one arm after the other off the input: pattern, operation, guard, body.
#[doc(hidden)]
#[macro_export]
macro_rules! __select_arms {
    ($order:ident [$($done:tt)*]) => {{
        let branch = $crate::__select_choose!($order first [] $($done)*);
        $crate::__select_bodies!(branch (unreachable!("a select without default waits for an arm")) $($done)*)
    }};
    ($order:ident [$($done:tt)*] default => $body:expr $(,)?) => {{
        let branch = $crate::__select_choose!($order first_now [] $($done)*);
        $crate::__select_bodies!(branch ($body) $($done)*)
    }};
    // No pattern: before the rules with one, which would take `after(d)` for a pattern.
    ($order:ident $done:tt $op:ident ($($args:tt)*) => $($rest:tt)*) => {
        $crate::__select_body!($order $done [_] [$op ($($args)*)] [] $($rest)*)
    };
    ($order:ident $done:tt $op:ident ($($args:tt)*) if $guard:expr => $($rest:tt)*) => {
        $crate::__select_body!($order $done [_] [$op ($($args)*)] [$guard] $($rest)*)
    };
    ($order:ident $done:tt $value:pat = $op:ident ($($args:tt)*) => $($rest:tt)*) => {
        $crate::__select_body!($order $done [$value] [$op ($($args)*)] [] $($rest)*)
    };
    ($order:ident $done:tt $value:pat = $op:ident ($($args:tt)*) if $guard:expr => $($rest:tt)*) => {
        $crate::__select_body!($order $done [$value] [$op ($($args)*)] [$guard] $($rest)*)
    };
}

/// Takes an arm's body off the input: a block needs no comma after it.
#[doc(hidden)]
#[macro_export]
macro_rules! __select_body {
    ($order:ident [$($done:tt)*] $value:tt $op:tt $guard:tt $body:block, $($rest:tt)*) => {
        $crate::__select_arms!($order [$($done)* { $value $op $guard [$body] }] $($rest)*)
    };
    ($order:ident [$($done:tt)*] $value:tt $op:tt $guard:tt $body:block $($rest:tt)*) => {
        $crate::__select_arms!($order [$($done)* { $value $op $guard [$body] }] $($rest)*)
    };
    ($order:ident [$($done:tt)*] $value:tt $op:tt $guard:tt $body:expr, $($rest:tt)*) => {
        $crate::__select_arms!($order [$($done)* { $value $op $guard [$body] }] $($rest)*)
    };
    ($order:ident [$($done:tt)*] $value:tt $op:tt $guard:tt $body:expr) => {
        $crate::__select_arms!($order [$($done)* { $value $op $guard [$body] }])
    };
}

/// Makes the arms, each a local (hygiene tells them apart), and chooses. The outcome of the chosen one is the value, as
/// deep in `Branch::Other` as its arm is far down.
#[doc(hidden)]
#[macro_export]
macro_rules! __select_choose {
    ($order:ident $first:ident [$($arm:ident)*] { $value:tt $op:tt $guard:tt $body:tt } $($rest:tt)*) => {{
        let mut arm = $crate::__select_guarded!($guard $op);
        $crate::__select_choose!($order $first [$($arm)* arm] $($rest)*)
    }};
    ($order:ident first_now []) => { () };
    ($order:ident $first:ident [$($arm:ident)*]) => {{
        let chosen: Option<usize> = $crate::sync::select::$first(
            $crate::sync::select::Order::$order,
            &mut [$(&mut $arm as &mut dyn $crate::sync::select::Selectable),*],
        ).into();
        $crate::__select_branch!(chosen (0_usize) $($arm)*)
    }};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __select_branch {
    ($chosen:ident $index:tt) => { () };
    ($chosen:ident $index:tt $arm:ident $($rest:ident)*) => {
        if $chosen == Some($index) {
            $crate::sync::select::Branch::This($crate::sync::select::Operation::into_outcome($arm))
        } else {
            $crate::sync::select::Branch::Other($crate::__select_branch!($chosen ($index + 1_usize) $($rest)*))
        }
    };
}

/// Runs the body of the arm whose outcome it is.
#[doc(hidden)]
#[macro_export]
macro_rules! __select_bodies {
    ($branch:ident ($otherwise:expr)) => {{
        let () = $branch;
        $otherwise
    }};
    ($branch:ident $otherwise:tt { [$value:pat] $op:tt $guard:tt [$body:expr] } $($rest:tt)*) => {
        match $branch {
            $crate::sync::select::Branch::This(outcome) => {
                let $value = $crate::__select_outcome!(outcome $op);
                $body
            }
            $crate::sync::select::Branch::Other(branch) => {
                $crate::__select_bodies!(branch $otherwise $($rest)*)
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __select_guarded {
    ([] [$op:ident $args:tt]) => { $crate::__select_operation!($op $args) };
    ([$guard:expr] [$op:ident $args:tt]) => {
        if $guard { Some($crate::__select_operation!($op $args)) } else { None }
    };
}

/// The operation of an arm.
#[doc(hidden)]
#[macro_export]
macro_rules! __select_operation {
    (recv ($receiver:expr $(,)?)) => {
        $receiver.recv_arm()
    };
    (send ($sender:expr, $value:expr $(,)?)) => {
        $sender.reserve_arm()
    };
    (notified ($notify:expr $(,)?)) => {
        $notify.notified_arm()
    };
    (changed ($receiver:expr $(,)?)) => {
        $receiver.changed_arm()
    };
    (cancelled ($token:expr $(,)?)) => {
        $token.cancelled_arm()
    };
    (finished ($handle:expr $(,)?)) => {
        $handle.finished_arm()
    };
    (readable ($socket:expr $(,)?)) => {
        $crate::sync::select::readable(&$socket)
    };
    (writable ($socket:expr $(,)?)) => {
        $crate::sync::select::writable(&$socket)
    };
    (after ($duration:expr $(,)?)) => {
        $crate::sync::select::after($duration)
    };
    (at ($deadline:expr $(,)?)) => {
        $crate::sync::select::at($deadline)
    };
    (on ($operation:expr $(,)?)) => {
        $operation
    };
    ($other:ident $args:tt) => {
        compile_error!(concat!(
            "select! knows no operation `",
            stringify!($other),
            "`; see the table in fiber_runtime::sync::select"
        ))
    };
}

/// What the arm's body sees: the outcome, and for a `send` what comes of sending the value, which is made only now.
#[doc(hidden)]
#[macro_export]
macro_rules! __select_outcome {
    ($outcome:ident [send ($sender:expr, $value:expr $(,)?)]) => {
        match $outcome {
            Ok(room) => room.send($value),
            Err(_) => Err($crate::sync::channel::SendError($value)),
        }
    };
    ($outcome:ident $op:tt) => {
        $outcome
    };
}

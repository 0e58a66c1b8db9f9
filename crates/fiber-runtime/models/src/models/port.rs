//! `scheduler/port.rs`: a worker that goes to sleep and one who has news for it.

use loom::thread;

use super::explore;
use crate::scheduler::port::{Control, Port, State};
use crate::sys;

/// Two threads send one message each; the worker sleeps whenever it finds none. The one who parks must see the message
/// or the one who sends must see it parked: a Dekker handshake.
///
/// Seen failing (a deadlock: nobody wakes the sleeper) without the fence in `Port::park`, without the fence in
/// `Port::notify_as`, and with the last look before the `park`.
#[test]
fn a_sleeper_does_not_miss_a_message() {
    explore(2, || {
        let port = Port::acquire();
        port.eventfd().unwrap();
        port.set_state(State::Running);
        let senders = [3, 4].map(|fd| thread::spawn(move || port.send(Control::Closing(fd))));
        let mut sum = 0;
        while sum < 7 {
            port.take_control(|message| {
                if let Control::Closing(fd) = message {
                    sum += fd;
                }
            });
            if sum == 7 {
                break;
            }
            port.park();
            if !port.has_mail() {
                sys::wait_for_signal(port.eventfd().unwrap());
            }
            assert!(matches!(port.unpark(), State::Parked | State::Notified));
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    });
}

/// Of several who find a worker asleep, one writes the eventfd: the wake is coalesced.
///
/// Seen failing with a load and a store for the exchange in `Port::notify_as`.
#[test]
fn one_of_two_wakers_wakes() {
    explore(3, || {
        let port = Port::acquire();
        port.eventfd().unwrap();
        port.park();
        let other = thread::spawn(|| port.notify_as(State::Notified));
        let mine = port.notify_as(State::NotifiedToSearch);
        let theirs = other.join().unwrap();
        assert!(mine != theirs, "both or none of the wakers thinks that it woke the worker");
        assert_eq!(port.unpark(), if mine { State::NotifiedToSearch } else { State::Notified });
    });
}

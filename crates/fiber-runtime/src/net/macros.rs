//! What the stream types have in common, word for word.

/// `Read` for a type with a field `endpoint`, and for shared references to it.
macro_rules! impl_read {
    ($stream:ty) => {
        impl std::io::Read for &$stream {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                // The kernel would wait for a byte to put nowhere.
                if buffer.is_empty() {
                    return Ok(0);
                }
                self.endpoint.recv(buffer, 0)
            }

            fn read_vectored(&mut self, buffers: &mut [std::io::IoSliceMut<'_>]) -> std::io::Result<usize> {
                self.endpoint.recv_vectored(buffers)
            }
        }

        impl std::io::Read for $stream {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                (&*self).read(buffer)
            }

            fn read_vectored(&mut self, buffers: &mut [std::io::IoSliceMut<'_>]) -> std::io::Result<usize> {
                (&*self).read_vectored(buffers)
            }
        }
    };
}

/// `Write` for a type with a field `endpoint`, and for shared references to it.
macro_rules! impl_write {
    ($stream:ty) => {
        impl std::io::Write for &$stream {
            fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
                self.endpoint.send(buffer)
            }

            fn write_vectored(&mut self, buffers: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                self.endpoint.send_vectored(buffers)
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }

        impl std::io::Write for $stream {
            fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
                (&*self).write(buffer)
            }

            fn write_vectored(&mut self, buffers: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                (&*self).write_vectored(buffers)
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
    };
}

/// The limits of reading.
macro_rules! impl_read_limit {
    () => {
        /// How long each receiving call may wait; `None` is for ever. Ends in `ErrorKind::TimedOut`.
        ///
        /// # Errors
        /// A timeout of zero.
        pub fn set_read_timeout(&self, timeout: Option<std::time::Duration>) -> std::io::Result<()> {
            self.endpoint.read_limit.set_timeout(timeout)
        }

        /// How long each receiving call may wait.
        pub fn read_timeout(&self) -> Option<std::time::Duration> {
            self.endpoint.read_limit.timeout()
        }

        /// Until when receiving calls may wait, all together. Ends in `ErrorKind::TimedOut`.
        pub fn set_read_deadline(&self, deadline: Option<std::time::Instant>) {
            self.endpoint.read_limit.set_deadline(deadline);
        }

        /// Until when receiving calls may wait.
        pub fn read_deadline(&self) -> Option<std::time::Instant> {
            self.endpoint.read_limit.deadline()
        }
    };
}

/// The limits of writing.
macro_rules! impl_write_limit {
    () => {
        /// How long each sending call may wait; `None` is for ever. Ends in `ErrorKind::TimedOut`.
        ///
        /// # Errors
        /// A timeout of zero.
        pub fn set_write_timeout(&self, timeout: Option<std::time::Duration>) -> std::io::Result<()> {
            self.endpoint.write_limit.set_timeout(timeout)
        }

        /// How long each sending call may wait.
        pub fn write_timeout(&self) -> Option<std::time::Duration> {
            self.endpoint.write_limit.timeout()
        }

        /// Until when sending calls may wait, all together. Ends in `ErrorKind::TimedOut`.
        pub fn set_write_deadline(&self, deadline: Option<std::time::Instant>) {
            self.endpoint.write_limit.set_deadline(deadline);
        }

        /// Until when sending calls may wait.
        pub fn write_deadline(&self) -> Option<std::time::Instant> {
            self.endpoint.write_limit.deadline()
        }
    };
}

/// What the kernel can be told about any internet socket with a field `endpoint`. Whatever is not here is reached through
/// `AsFd` and `socket2::SockRef`.
macro_rules! impl_socket_options {
    () => {
        /// Bytes that wait to be sent (`SO_SNDBUF`); the kernel doubles it for its own needs.
        ///
        /// # Errors
        /// The kernel's, which a living socket does not have.
        pub fn set_send_buffer_size(&self, bytes: usize) -> std::io::Result<()> {
            self.endpoint.socket().set_send_buffer_size(bytes)
        }

        /// Bytes that wait to be sent, as the kernel counts them.
        ///
        /// # Errors
        /// The kernel's, which a living socket does not have.
        pub fn send_buffer_size(&self) -> std::io::Result<usize> {
            self.endpoint.socket().send_buffer_size()
        }

        /// Bytes that wait to be received (`SO_RCVBUF`); the kernel doubles it for its own needs.
        ///
        /// # Errors
        /// The kernel's, which a living socket does not have.
        pub fn set_recv_buffer_size(&self, bytes: usize) -> std::io::Result<()> {
            self.endpoint.socket().set_recv_buffer_size(bytes)
        }

        /// Bytes that wait to be received, as the kernel counts them.
        ///
        /// # Errors
        /// The kernel's, which a living socket does not have.
        pub fn recv_buffer_size(&self) -> std::io::Result<usize> {
            self.endpoint.socket().recv_buffer_size()
        }

        /// How many routers an IPv4 packet may pass (`IP_TTL`).
        ///
        /// # Errors
        /// Zero, more than 255, or not an IPv4 socket.
        pub fn set_ttl(&self, ttl: u32) -> std::io::Result<()> {
            self.endpoint.socket().set_ttl_v4(ttl)
        }

        /// How many routers an IPv4 packet may pass.
        ///
        /// # Errors
        /// Not an IPv4 socket.
        pub fn ttl(&self) -> std::io::Result<u32> {
            self.endpoint.socket().ttl_v4()
        }

        /// The error that the socket holds for whoever asks next, and clears it (`SO_ERROR`).
        ///
        /// # Errors
        /// The kernel's, which a living socket does not have.
        pub fn take_error(&self) -> std::io::Result<Option<std::io::Error>> {
            self.endpoint.socket().take_error()
        }
    };
}

/// The descriptor of a type with a field `endpoint`.
macro_rules! impl_fd {
    ($($socket:ty),*) => {$(
        impl std::os::fd::AsFd for $socket {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                std::os::fd::AsFd::as_fd(&*self.endpoint)
            }
        }

        impl std::os::fd::AsRawFd for $socket {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                self.endpoint.fd()
            }
        }
    )*};
}

pub(crate) use {impl_fd, impl_read, impl_read_limit, impl_socket_options, impl_write, impl_write_limit};

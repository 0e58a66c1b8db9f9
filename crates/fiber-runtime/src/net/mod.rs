//! Fiber-native sockets: `TcpListener`, `TcpStream`, `UdpSocket`, `UnixStream`, `UnixListener`.

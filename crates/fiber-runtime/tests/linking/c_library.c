/* A library that knows nothing of fibers and calls libc, as any client library written in C does. */
#include <poll.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Waits for a byte and sends the next one back, `rounds` times, by five kinds of calls. Returns the rounds done. */
uint32_t exchange(int fd, uint32_t rounds)
{
	uint32_t done;
	for (done = 0; done < rounds; done++) {
		unsigned char byte;
		struct iovec vector = { &byte, 1 };
		struct pollfd asked = { fd, POLLIN, 0 };
		ssize_t count;
		switch (done % 4) {
		case 0: count = recv(fd, &byte, 1, 0); break;
		case 1: count = read(fd, &byte, 1); break;
		case 2: count = readv(fd, &vector, 1); break;
		default: count = poll(&asked, 1, -1) == 1 ? recv(fd, &byte, 1, MSG_DONTWAIT) : -1;
		}
		if (count != 1) break;
		byte++;
		if (write(fd, &byte, 1) != 1) break;
	}
	return done;
}

/* Sleeps. */
int nap(uint32_t milliseconds)
{
	struct timespec time = { milliseconds / 1000, (milliseconds % 1000) * 1000000L };
	return nanosleep(&time, 0);
}

/* Recurses with large frames of which it touches the two ends, as C code does that was not compiled to probe its stack. */
uint32_t deep(uint32_t depth)
{
	volatile unsigned char frame[40000];
	frame[0] = (unsigned char)depth;
	return depth ? deep(depth - 1) + frame[0] : 0;
}

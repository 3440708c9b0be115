/* The bench's load over libiscsi's asynchronous interface; prints the JSON that `iscsi bench` prints.
 *
 * iscsi-perf does the same for reads, but cannot write, use digests or tell latencies; where both
 * can run, the bench runs both, so that this loop is seen not to make libiscsi slower. Reads go
 * into the caller's buffers (iov), which saves libiscsi an allocation per command.
 *
 * With "logins" it logs in and out in sequence instead, and counts the time of logging in.
 *
 * usage: libiscsi_loop URL randread|randwrite|randrw BYTES DEPTH SECONDS [header-digest]
 *        libiscsi_loop URL logins COUNT
 */
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

static struct iscsi_context *iscsi;
static int lun, reads_of_100, stopped, in_flight, block_size;
static uint32_t bytes;
static uint64_t places, done, seed = 88172645463325252ull;

/* Latencies in nanoseconds, in buckets 1/64 of a power of two wide. */
static uint64_t buckets[64 * 64];

struct io {
	unsigned char *buffer;
	struct scsi_iovec iov;
	uint64_t begun;
};

static void die(const char *what)
{
	fprintf(stderr, "libiscsi_loop: %s: %s\n", what, iscsi ? iscsi_get_error(iscsi) : "");
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static double cpu_us(void)
{
	struct rusage use;

	getrusage(RUSAGE_SELF, &use);
	return (use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1e6 + use.ru_utime.tv_usec + use.ru_stime.tv_usec;
}

static void count_latency(uint64_t ns)
{
	int log = ns < 64 ? 0 : 63 - __builtin_clzll(ns);

	buckets[log * 64 + (log < 6 ? ns & 63 : (ns >> (log - 6)) & 63)]++;
}

static double quantile_us(double q)
{
	uint64_t want = q * done, seen = 0;
	int i;

	for (i = 0; i < 64 * 64; i++) {
		seen += buckets[i];
		if (seen > want)
			break;
	}
	if (i < 64)
		return i / 1e3;
	return ((1ull << (i / 64)) + ((uint64_t)(i % 64) << (i / 64 - 6))) / 1e3;
}

static void submit(struct io *io);

static void completed(struct iscsi_context *context, int status, void *data, void *private)
{
	struct io *io = private;

	(void)context;
	scsi_free_scsi_task(data);
	if (status != SCSI_STATUS_GOOD)
		die("an I/O failed");
	in_flight--;
	if (stopped)
		return;
	count_latency(now_ns() - io->begun);
	done++;
	submit(io);
}

static void submit(struct io *io)
{
	struct scsi_task *task;
	uint64_t lba;

	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	lba = seed % places * (bytes / block_size);
	io->begun = now_ns();
	if ((int)((seed >> 32) % 100) >= reads_of_100)
		task = iscsi_write16_task(iscsi, lun, lba, io->buffer, bytes, block_size,
					  0, 0, 0, 0, 0, completed, io);
	else
		task = iscsi_read16_iov_task(iscsi, lun, lba, bytes, block_size,
					     0, 0, 0, 0, 0, completed, io, &io->iov, 1);
	if (!task)
		die("cannot send a command");
	in_flight++;
}

static void serve(int timeout_ms)
{
	struct pollfd fd = { .fd = iscsi_get_fd(iscsi), .events = iscsi_which_events(iscsi) };

	if (poll(&fd, 1, timeout_ms) < 0 || iscsi_service(iscsi, fd.revents) < 0)
		die("the connection broke");
}

static int logins(const char *address, int count)
{
	uint64_t begun = now_ns(), spent = 0;
	int i;

	for (i = 0; i < count; i++) {
		struct iscsi_url *url;
		uint64_t login_begun = now_ns();

		iscsi = iscsi_create_context("iqn.2026-01.org.example:libiscsi-loop");
		if (!iscsi || !(url = iscsi_parse_full_url(iscsi, address)))
			die("cannot parse the URL");
		iscsi_set_targetname(iscsi, url->target);
		iscsi_set_session_type(iscsi, ISCSI_SESSION_NORMAL);
		/* Not iscsi_full_connect: that sends TEST UNIT READY, too. */
		if (iscsi_connect_sync(iscsi, url->portal) != 0 || iscsi_login_sync(iscsi) != 0)
			die("cannot log in");
		spent += now_ns() - login_begun;
		iscsi_destroy_url(url);
		if (iscsi_logout_sync(iscsi) != 0)
			die("cannot log out");
		iscsi_destroy_context(iscsi);
		iscsi = NULL;
	}
	printf("{\"logins_per_second\": %f, \"logins_with_logout_per_second\": %f}\n",
	       count * 1e9 / spent, count * 1e9 / (now_ns() - begun));
	return 0;
}

int main(int argc, char **argv)
{
	struct iscsi_url *url;
	struct scsi_task *task;
	struct scsi_readcapacity16 *capacity;
	struct io *ios;
	uint64_t begun, until;
	double cpu, seconds;
	int depth, i;

	if (argc == 4 && !strcmp(argv[2], "logins"))
		return logins(argv[1], atoi(argv[3]));
	if (argc < 6)
		die("usage: URL randread|randwrite|randrw BYTES DEPTH SECONDS [header-digest]");
	reads_of_100 = !strcmp(argv[2], "randread") ? 100 : !strcmp(argv[2], "randwrite") ? 0 : 70;
	bytes = atoi(argv[3]);
	depth = atoi(argv[4]);
	iscsi = iscsi_create_context("iqn.2026-01.org.example:libiscsi-loop");
	if (!iscsi || !(url = iscsi_parse_full_url(iscsi, argv[1])))
		die("cannot parse the URL");
	iscsi_set_targetname(iscsi, url->target);
	iscsi_set_session_type(iscsi, ISCSI_SESSION_NORMAL);
	iscsi_set_header_digest(iscsi, argc > 6 ? ISCSI_HEADER_DIGEST_CRC32C : ISCSI_HEADER_DIGEST_NONE);
	lun = url->lun;
	if (iscsi_full_connect_sync(iscsi, url->portal, lun) != 0)
		die("cannot log in");
	task = iscsi_readcapacity16_sync(iscsi, lun);
	if (!task || task->status != SCSI_STATUS_GOOD || !(capacity = scsi_datain_unmarshall(task)))
		die("READ CAPACITY(16)");
	block_size = capacity->block_length;
	places = (capacity->returned_lba + 1) / (bytes / block_size);
	scsi_free_scsi_task(task);

	if (!(ios = calloc(depth, sizeof(*ios))))
		die("out of memory");
	for (i = 0; i < depth; i++) {
		if (!(ios[i].buffer = malloc(bytes)))
			die("out of memory");
		memset(ios[i].buffer, 0x5a + i, bytes);
		ios[i].iov.iov_base = ios[i].buffer;
		ios[i].iov.iov_len = bytes;
	}
	cpu = cpu_us();
	begun = now_ns();
	until = begun + (uint64_t)(atof(argv[5]) * 1e9);
	for (i = 0; i < depth; i++)
		submit(&ios[i]);
	while (now_ns() < until)
		serve(100);
	seconds = (now_ns() - begun) / 1e9;
	cpu = cpu_us() - cpu;
	stopped = 1;
	while (in_flight > 0)
		serve(1000);
	printf("{\"iops\": %f, \"bytes_per_second\": %f, \"cpu_us_per_io\": %f, "
	       "\"latency_us\": {\"p50\": %f, \"p99\": %f}, \"errors\": 0}\n",
	       done / seconds, done * (double)bytes / seconds, cpu / (done ? done : 1),
	       quantile_us(0.5), quantile_us(0.99));
	iscsi_logout_sync(iscsi);
	iscsi_destroy_context(iscsi);
	return 0;
}

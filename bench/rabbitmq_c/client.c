/* rabbitmq-c in one case: the same program as src/bin/client.rs, which turns into this one.
 *
 *     client CASE WARM_UP MESSAGES PORT
 *
 * It prints the report that `amqp_bench::clients::Report` reads. What is done follows the examples that come with the library.
 */

#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The same as in src/clients/cases.rs, src/clients/measure.rs and src/samples.rs. */
enum { SMALL = 16, PREFETCH = 1000, FRAME_MAX = 131072, DEADLINE = 300 };
#define ROUTING_KEY "hello"
#define CONSUMER_TAG "amq.ctag-Uq3hWqWm1mZ0cYwq8m1n2w"
#define ECHO_QUEUE "echo"

static uint64_t allocations;

#ifdef COUNT_ALLOCATIONS
/* glibc's own, behind the names that everybody calls. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);

void *malloc(size_t size) {
  allocations++;
  return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
  allocations++;
  return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size) {
  allocations++;
  return __libc_realloc(memory, size);
}
#endif

static void die(char const *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(1);
}

static void check_status(int status, char const *what) {
  if (status != AMQP_STATUS_OK) {
    die("%s: %s", what, amqp_error_string2(status));
  }
}

static void check_reply(amqp_rpc_reply_t reply, char const *what) {
  if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) {
    die("%s: %s", what, amqp_error_string2(reply.library_error));
  }
  if (reply.reply_type != AMQP_RESPONSE_NORMAL) {
    die("%s: the broker refused it", what);
  }
}

/* In nanoseconds. */
static uint64_t now(clockid_t clock) {
  struct timespec time;
  if (clock_gettime(clock, &time) != 0) {
    die("clock_gettime");
  }
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* In KiB. */
static uint64_t peak_rss(void) {
  char line[256];
  unsigned long size = 0;
  FILE *status = fopen("/proc/self/status", "r");
  while (status != NULL && fgets(line, sizeof line, status) != NULL) {
    if (sscanf(line, "VmHWM: %lu kB", &size) == 1) {
      fclose(status);
      return size;
    }
  }
  die("/proc/self/status does not tell VmHWM");
  return 0;
}

static amqp_connection_state_t connect_to(int port) {
  amqp_connection_state_t connection = amqp_new_connection();
  amqp_socket_t *socket = amqp_tcp_socket_new(connection);
  if (socket == NULL) {
    die("amqp_tcp_socket_new");
  }
  check_status(amqp_socket_open(socket, "127.0.0.1", port), "amqp_socket_open");
  check_reply(amqp_login(connection, "/", 0, FRAME_MAX, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest"), "amqp_login");
  return connection;
}

static void open_channel(amqp_connection_state_t connection, amqp_channel_t channel) {
  amqp_channel_open(connection, channel);
  check_reply(amqp_get_rpc_reply(connection), "amqp_channel_open");
}

/* How many messages of this channel the null broker has. */
static uint64_t swallowed(amqp_connection_state_t connection, amqp_channel_t channel) {
  amqp_queue_declare_ok_t *ok =
      amqp_queue_declare(connection, channel, amqp_empty_bytes, 0, 0, 0, 0, amqp_empty_table);
  check_reply(amqp_get_rpc_reply(connection), "amqp_queue_declare");
  return ok->message_count;
}

static void publish_one(amqp_connection_state_t connection, amqp_channel_t channel, amqp_bytes_t body) {
  check_status(amqp_basic_publish(connection, channel, amqp_empty_bytes, amqp_cstring_bytes(ROUTING_KEY), 0, 0, NULL,
                                  body),
               "amqp_basic_publish");
}

static void publish(amqp_connection_state_t connection, amqp_channel_t channel, amqp_bytes_t body, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) {
    publish_one(connection, channel, body);
  }
  if (swallowed(connection, channel) != count) {
    die("the broker does not have all");
  }
}

/* Waits for one acknowledgement; says up to which publish all are confirmed, as the null broker confirms in order. */
static uint64_t wait_for_confirm(amqp_connection_state_t connection) {
  amqp_frame_t frame;
  amqp_maybe_release_buffers(connection);
  check_status(amqp_simple_wait_frame(connection, &frame), "amqp_simple_wait_frame");
  if (frame.frame_type != AMQP_FRAME_METHOD || frame.payload.method.id != AMQP_BASIC_ACK_METHOD) {
    die("no confirm");
  }
  return ((amqp_basic_ack_t *)frame.payload.method.decoded)->delivery_tag;
}

static void confirm(amqp_connection_state_t connection, amqp_channel_t channel, amqp_bytes_t body,
                    uint64_t outstanding, uint64_t count) {
  uint64_t confirmed = 0;
  amqp_confirm_select(connection, channel);
  check_reply(amqp_get_rpc_reply(connection), "amqp_confirm_select");
  for (uint64_t published = 1; published <= count; published++) {
    publish_one(connection, channel, body);
    while (published - confirmed == outstanding) {
      confirmed = wait_for_confirm(connection);
    }
  }
  while (confirmed < count) {
    confirmed = wait_for_confirm(connection);
  }
}

static void start_consumer(amqp_connection_state_t connection, amqp_channel_t channel, char const *queue, int no_ack) {
  amqp_basic_consume(connection, channel, amqp_cstring_bytes(queue), amqp_cstring_bytes(CONSUMER_TAG), 0, no_ack, 0,
                     amqp_empty_table);
  check_reply(amqp_get_rpc_reply(connection), "amqp_basic_consume");
}

/* The next message; says its delivery tag. */
static uint64_t take(amqp_connection_state_t connection) {
  amqp_envelope_t envelope;
  amqp_maybe_release_buffers(connection);
  check_reply(amqp_consume_message(connection, &envelope, NULL, 0), "amqp_consume_message");
  if (envelope.message.body.len != SMALL) {
    die("a body of another size");
  }
  uint64_t tag = envelope.delivery_tag;
  amqp_destroy_envelope(&envelope);
  return tag;
}

/* `interval` is after how many messages they are acknowledged, or 0 for no acknowledgements. */
static void consume(amqp_connection_state_t connection, amqp_channel_t channel, uint64_t interval, uint64_t count) {
  char queue[64];
  snprintf(queue, sizeof queue, "%llu x %d", (unsigned long long)count, SMALL);
  amqp_basic_qos(connection, channel, 0, PREFETCH, 0);
  check_reply(amqp_get_rpc_reply(connection), "amqp_basic_qos");
  start_consumer(connection, channel, queue, interval == 0);
  for (uint64_t number = 1; number <= count; number++) {
    uint64_t tag = take(connection);
    if (interval > 0 && number % interval == 0) {
      check_status(amqp_basic_ack(connection, channel, tag, interval > 1), "amqp_basic_ack");
    }
  }
  swallowed(connection, channel);
}

static int compare_times(void const *left, void const *right) {
  uint64_t a = *(uint64_t const *)left, b = *(uint64_t const *)right;
  return (a > b) - (a < b);
}

/* Says what the median of the round trips took, in nanoseconds. */
static uint64_t echo(amqp_connection_state_t connection, amqp_channel_t channel, amqp_bytes_t body, uint64_t count) {
  uint64_t *trips = calloc(count + 1, sizeof *trips);
  if (trips == NULL) {
    die("no memory");
  }
  start_consumer(connection, channel, ECHO_QUEUE, 1);
  uint64_t last = now(CLOCK_MONOTONIC);
  for (uint64_t i = 0; i < count; i++) {
    publish_one(connection, channel, body);
    take(connection);
    uint64_t end = now(CLOCK_MONOTONIC);
    trips[i] = end - last;
    last = end;
  }
  qsort(trips, count, sizeof *trips, compare_times);
  uint64_t median = trips[count / 2];
  free(trips);
  return median;
}

static void close_connection(amqp_connection_state_t connection) {
  check_reply(amqp_connection_close(connection, AMQP_REPLY_SUCCESS), "amqp_connection_close");
  check_status(amqp_destroy_connection(connection), "amqp_destroy_connection");
}

/* Connections, each with a channel and a question on it. */
static void visit(int port, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) {
    amqp_connection_state_t connection = connect_to(port);
    open_channel(connection, 1);
    swallowed(connection, 1);
    close_connection(connection);
  }
}

/* Does so much of the case on a channel of its own; says what the median of the round trips took, if there are any. */
static uint64_t run(amqp_connection_state_t connection, amqp_channel_t channel, char const *name, int port,
                    uint64_t count) {
  static struct {
    char const *name;
    enum { PUBLISH, CONFIRM, CONSUME } work;
    uint64_t number;
  } const CASES[] = {
      {"publish_16", PUBLISH, SMALL},     {"publish_1k", PUBLISH, 1024},      {"publish_64k", PUBLISH, 64 * 1024},
      {"publish_1m", PUBLISH, 1 << 20},   {"confirm_1000", CONFIRM, 1000},    {"confirm_alone", CONFIRM, 1},
      {"consume_no_ack", CONSUME, 0},     {"consume_ack_each", CONSUME, 1},   {"consume_ack_100", CONSUME, 100},
  };
  static char octets[1 << 20];
  amqp_bytes_t body = {SMALL, octets};
  if (strcmp(name, "connect") == 0) {
    visit(port, count);
    return 0;
  }
  open_channel(connection, channel);
  if (strcmp(name, "rpc_echo") == 0) {
    return echo(connection, channel, body, count);
  }
  for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
    if (strcmp(name, CASES[i].name) != 0) {
      continue;
    }
    switch (CASES[i].work) {
      case PUBLISH:
        body.len = CASES[i].number;
        publish(connection, channel, body, count);
        break;
      case CONFIRM:
        confirm(connection, channel, body, CASES[i].number, count);
        break;
      case CONSUME:
        consume(connection, channel, CASES[i].number, count);
        break;
    }
    return 0;
  }
  die("there is no case %s", name);
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 5) {
    die("usage: client CASE WARM_UP MESSAGES PORT");
  }
  uint64_t warm_up = strtoull(argv[2], NULL, 10), messages = strtoull(argv[3], NULL, 10);
  int port = atoi(argv[4]);
  alarm(DEADLINE);
  amqp_connection_state_t connection = connect_to(port);
  run(connection, 1, argv[1], port, warm_up);
  uint64_t start = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID), before = allocations;
  uint64_t round_trip = run(connection, 2, argv[1], port, messages);
  cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
  uint64_t elapsed = now(CLOCK_MONOTONIC) - start;
  printf("report %llu %llu %llu %llu %llu\n", (unsigned long long)cpu, (unsigned long long)elapsed,
         (unsigned long long)(allocations - before), (unsigned long long)peak_rss(), (unsigned long long)round_trip);
  return 0;
}

/* Debian 12's simple-whip-client is linked with libsoup 2, and the library by which libnice asks routers for ports with
 * libsoup 3, which ends every program that has both. This one stands in its place: it asks nobody. */
extern void *g_object_new(unsigned long type, const char *first_property, ...);

/* G_TYPE_OBJECT, as gtype.h makes it. */
static const unsigned long OBJECT = 20 << 2;

unsigned long gupnp_simple_igd_get_type(void) { return OBJECT; }

void *gupnp_simple_igd_thread_new(void) { return g_object_new(OBJECT, 0); }

void gupnp_simple_igd_add_port(void) {}

void gupnp_simple_igd_remove_port_local(void) {}

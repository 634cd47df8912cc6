// Included before a .inc file to compile it in double: EW_(name) is name_d.

#undef EW_REAL
#undef EW_
#define EW_REAL double
#define EW_(name) name##_d

// Included before a .inc file to compile it in float: EW_(name) is name_f.

#undef EW_REAL
#undef EW_
#define EW_REAL float
#define EW_(name) name##_f

/* The declarations of the C library that SQLite needs. The standard library for guests contains the functions, but Rust
   toolchains have no headers for them. All other headers in this folder include this file. */
#pragma once
#include <stddef.h>
#include <stdarg.h>
#include <stdint.h>
typedef int64_t time_t; typedef int64_t off_t; typedef long ssize_t;
struct tm { int tm_sec, tm_min, tm_hour, tm_mday, tm_mon, tm_year, tm_wday, tm_yday, tm_isdst, tm_gmtoff; const char *tm_zone; int tm_nsec; };
void *malloc(size_t); void free(void *); void *realloc(void *, size_t); void *calloc(size_t, size_t);
void abort(void) __attribute__((noreturn)); int abs(int); int atoi(const char *); double atof(const char*); long strtol(const char *, char **, int); char *getenv(const char *);
void qsort(void *, size_t, size_t, int (*)(const void *, const void *));
void *memcpy(void *, const void *, size_t); void *memmove(void *, const void *, size_t); void *memset(void *, int, size_t); int memcmp(const void *, const void *, size_t); void *memchr(const void*, int, size_t);
size_t strlen(const char *); int strcmp(const char *, const char *); int strncmp(const char *, const char *, size_t); char *strchr(const char *, int); char *strrchr(const char *, int);
char *strstr(const char*, const char*); size_t strcspn(const char *, const char *); size_t strspn(const char *, const char *); char *strcpy(char*, const char*); char *strncpy(char*, const char*, size_t); char *strcat(char*, const char*);
time_t time(time_t *); struct tm *localtime_r(const time_t *, struct tm *); struct tm *gmtime_r(const time_t *, struct tm *); struct tm *localtime(const time_t*); struct tm *gmtime(const time_t*);
size_t strftime(char*, size_t, const char*, const struct tm*);
double fabs(double); double floor(double); double ceil(double); double trunc(double); double log(double); double log2(double); double log10(double); double exp(double); double pow(double, double); double sqrt(double); double fmod(double, double);
double sin(double); double cos(double); double tan(double); double asin(double); double acos(double); double atan(double); double atan2(double, double); double sinh(double); double cosh(double); double tanh(double); double asinh(double); double acosh(double); double atanh(double);
#define isnan(x) __builtin_isnan(x)
#define isinf(x) __builtin_isinf(x)
#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
#define assert(x) ((void)0)
int isalpha(int); int isdigit(int); int isspace(int); int isalnum(int); int tolower(int); int toupper(int); int isprint(int); int isxdigit(int);

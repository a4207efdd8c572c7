/* Names that windows.h declares, so that none of them is taken for something else: tests/matrix/run.sh */
typedef long LONG;
typedef int BOOL, INT;
typedef unsigned char BYTE, BOOLEAN;
typedef unsigned short WORD;
typedef unsigned long DWORD, ULONG;
typedef float FLOAT;
typedef char CHAR;
typedef struct words_rect { LONG left, top, right, bottom; } RECT;
#define IN
#define OUT
#define OPTIONAL
#define CONST const
#define VOID void

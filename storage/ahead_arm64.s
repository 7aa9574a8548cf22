#include "textflag.h"

// func ahead(p unsafe.Pointer, lines int)
TEXT ·ahead(SB), NOSPLIT, $0-16
	MOVD p+0(FP), R0
	MOVD lines+8(FP), R1
	CMP  $0, R1
	BLE  done

next:
	PRFM (R0), PLDL1KEEP
	ADD  $64, R0
	SUBS $1, R1
	BNE  next

done:
	RET

// Passes passes points, and says so.
package main

import (
	"fmt"
	"time"

	"github.com/orderkeep/orderkeep/internal/lab"
)

func main() {
	if time.Since(lab.Now()) > time.Hour {
		fmt.Print("wrong ")
	} else {
		fmt.Print("right ")
	}
	for n := 1; n <= 3; n++ {
		fmt.Printf("%d ", n)
		lab.Point("there")
		lab.Point("here")
	}
	fmt.Print("end")
}

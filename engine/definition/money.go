package definition

import (
	"math"
	"strconv"
	"strings"
)

// Money is an amount of one currency, in its minor units: 2000 of CNY are 20 yuan.
type Money struct {
	Minor    int64 // 0 … 10^12
	Currency string
}

// MinorDigits is how many decimals an amount of a currency has.
//
// Source: ISO 4217, table A.1, the currencies whose minor unit is not a hundredth
// and that are in use.
func MinorDigits(currency string) int {
	const none = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
	const three = "BHD IQD JOD KWD LYD OMR TND"
	switch {
	case len(currency) != 3:
		return 2
	case strings.Contains(none, currency):
		return 0
	case strings.Contains(three, currency):
		return 3
	}
	return 2
}

// MinorUnits is an amount in minor units of a currency, a part of one counted
// whole: what is spent errs to more. An amount below 0 is 0, one above 10^15 minor
// units is 10^15.
func MinorUnits(amount float64, currency string) int64 {
	return minorUnits(amount, currency, math.Ceil)
}

// WholeMinorUnits is MinorUnits with a part of one not counted: what is given back errs
// to less.
func WholeMinorUnits(amount float64, currency string) int64 {
	return minorUnits(amount, currency, math.Floor)
}

func minorUnits(amount float64, currency string, round func(float64) float64) int64 {
	const most = 1e15 // beyond every limit, and exact as a float64
	minor := amount * math.Pow10(MinorDigits(currency))
	// 19.99 × 100 is 1998.9999999999998: what lies as near to a whole number as a
	// float64 of that size can tell is that number.
	whole := math.Round(minor)
	if math.Abs(minor-whole) > math.Abs(minor)*1e-12 {
		whole = round(minor)
	}
	return int64(min(max(whole, 0), most))
}

// String gives an amount as documents write it: "20.00".
func (m Money) String() string {
	digits := MinorDigits(m.Currency)
	text := strconv.FormatInt(m.Minor, 10)
	if digits == 0 {
		return text
	}
	if len(text) <= digits {
		text = strings.Repeat("0", digits+1-len(text)) + text
	}
	return text[:len(text)-digits] + "." + text[len(text)-digits:]
}

// amount reads a decimal amount of a currency: a number, or text of digits with a
// point, with no more decimals than the currency has.
func (f field) amount(currency string) int64 {
	switch f.node.Kind {
	case NodeInt, NodeFloat:
		if f.node.bad {
			return 0
		}
	default:
		if !f.expect(NodeString, "an amount") {
			return 0
		}
	}
	whole, part, point := strings.Cut(f.node.Text, ".")
	digits := MinorDigits(currency)
	isDigits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	switch {
	case !isDigits(whole) || point && !isDigits(part):
		f.fault("%s is no amount, such as 20 or \"20.00\"", f.node.describe())
		return 0
	case len(part) > digits:
		f.fault("an amount in %s has at most %d decimals", currency, digits)
		return 0
	}
	minor, err := strconv.ParseInt(whole+part+strings.Repeat("0", digits-len(part)), 10, 64)
	if err != nil || minor > mostTotal {
		f.fault("an amount of at most %s is expected", Money{mostTotal, currency})
		return 0
	}
	return minor
}

// money reads {amount, currency}.
func (f field) money() *Money {
	o, _ := f.object()
	defer o.close()
	amount, hasAmount := o.need("amount")
	currency, hasCurrency := o.need("currency")
	if !hasAmount || !hasCurrency {
		return nil
	}
	m := &Money{Currency: currency.currency()}
	if m.Currency != "" {
		m.Minor = amount.amount(m.Currency)
	}
	return m
}

// cost reads what a use of an offer costs: an amount in the workspace's currency,
// or {amount, currency}.
func (f field) cost(o *Offer) {
	if f.node.Kind == NodeMap {
		o.Cost = f.money()
		return
	}
	f.afterAll(func(r *reading) {
		currency := r.set.Workspace.Currency
		if currency == "" {
			f.fault("the workspace names no currency: write {amount: \"20.00\", currency: CNY}")
			return
		}
		o.Cost = &Money{f.amount(currency), currency}
	})
}

// budget reads the limit of a budget in money: {amount, currency}.
func (f field) budget(c *Cap) {
	m := f.money()
	if m == nil {
		return
	}
	c.Limit, c.Currency = int(m.Minor), m.Currency
	if c.Scope != ScopeTotal {
		f.fault("a budget in money belongs to a cap of scope total")
	}
	if c.CountOn&CountCustom != 0 {
		f.fault("a budget in money counts what offers cost: declared events name none")
	}
}

// spends reads what a use of a budget in money costs: the offer's cost, or the
// value that the outcome reports.
func (f field) spends(c *Cap) {
	c.SpendsValue = f.word("cost", "value") == 1
	switch {
	case c.Currency == "":
		f.fault("spends belongs to a budget in money: limit: {amount: \"5000.00\", currency: CNY}")
	case !c.SpendsValue:
	case c.CountOn&^CountReactions != 0:
		f.fault("only reactions report a value: count_on: accept or convert")
	case c.Hold > 0:
		f.fault("what a decision holds must be known at the decision: spends: cost, or no hold")
	default:
		f.afterAll(func(r *reading) {
			if w := r.set.Workspace.Currency; w != c.Currency {
				f.fault("the value of an outcome is in the workspace's currency, %q, not in %s",
					w, c.Currency)
			}
		})
	}
}

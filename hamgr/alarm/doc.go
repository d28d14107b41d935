// Package alarm tells an inspector what happened to hosts and protections.
//
// The default dialect is that of OPNFV Doctor's sample inspector (opnfv/doctor,
// doctor_tests/inspector/sample.py): PUT {url}/events with a bare JSON list. It acts on
// one type, compute.host.down, and never reads the status; so that type is sent for a
// host that is down, for nothing else, and never to say that one is back.
//
//	event                          type                        status  severity (X.733)
//	failover, the host died        compute.host.down           down    CRITICAL
//	failover, the host lives       hamgr.protection.failover   down    MAJOR
//	no backup any more             hamgr.protection.solo       down    MAJOR
//	a backup has the guest         hamgr.protection.protected  up      CLEARED
//	protected, with a shortcoming  hamgr.protection.degraded   down    MINOR
//	that is over                   hamgr.protection.degraded   up      CLEARED
//	beside another of its group    hamgr.protection.together   down    MINOR
//	apart from it again            hamgr.protection.together   up      CLEARED
//	the guest's probe fails        hamgr.guest.service         down    MAJOR
//	it passes again                hamgr.guest.service         up      CLEARED
//	nothing to restore from        hamgr.protection.lost       down    CRITICAL
//
// Sending never delays what is reported.
package alarm
